# As packages of a headless browser start it in a function, which has no /dev/shm here and on AWS: in one process, in some,
# and with a process that forks others. On a busy machine the first of these traps now and then while it ends (133), without
# any sandbox as well: what it drew by then is what counts.
for processes in '--single-process --no-zygote' '--no-zygote' ''; do
    /usr/lib/chromium/chromium-headless-shell --no-sandbox --disable-gpu --disable-dev-shm-usage \
        --user-data-dir=/tmp/browser --dump-dom $processes 'data:text/html,<script>document.write("wor" + "ks")</script>' \
        >/tmp/drawn 2>/tmp/said
    case "$?$processes" in
        0* | 133--single-process*) ended=well ;;
        *) ended=badly ;;
    esac
    grep -q works /tmp/drawn && [ $ended = well ] || { echo "with $processes it ended $ended:"; cat /tmp/drawn /tmp/said; exit 1; }
done 2>/tmp/trapped
echo works
