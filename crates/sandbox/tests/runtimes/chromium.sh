# As packages of a headless browser start it in a function, which has no /dev/shm here and on AWS: in one process, in some,
# and with a process that forks others.
for processes in '--single-process --no-zygote' '--no-zygote' ''; do
    /usr/lib/chromium/chromium-headless-shell --no-sandbox --disable-gpu --disable-dev-shm-usage \
        --user-data-dir=/tmp/browser --dump-dom $processes 'data:text/html,<script>document.write("wor" + "ks")</script>' \
        2>/tmp/said | grep -q works || { echo "with $processes:"; cat /tmp/said; exit 1; }
done
echo works
