require 'socket'
require 'tempfile'
require 'etc'
require 'open3'

raise 'threads' unless (1..8).map { |n| Thread.new { n } }.sum(&:value) == 36
raise 'process' unless Open3.capture2('/bin/echo', 'x').first == "x\n"
Process.wait(fork { exit!(0) })
server = TCPServer.new('127.0.0.1', 0)
Thread.new { server.accept.tap { |client| client.write('hello') }.close }
raise 'socket' unless TCPSocket.new('127.0.0.1', server.addr[1]).read == 'hello'
Socket.getifaddrs
Addrinfo.getaddrinfo('localhost', 80)
Tempfile.create('x', '/tmp') { |file| file.write('x'); file.flock(File::LOCK_EX); file.fsync }
File.mkfifo('/tmp/fifo')
Etc.nprocessors
Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)
Process.setproctitle('function')
puts 'works'
