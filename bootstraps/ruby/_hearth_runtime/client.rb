# frozen_string_literal: true

require "socket"

module HearthRuntime
  # HTTP/1.1 over one kept socket, by hand: loading an HTTP library would take longer than the start of the interpreter.
  class Client
    PATH = "/2018-06-01/runtime"

    # An event: its request id, its headers (lower case) and its body.
    Event = Struct.new(:id, :headers, :body)

    def initialize(address)
      host, _, port = address.rpartition(":")
      @host = "Host: #{address}\r\n"
      @socket = TCPSocket.new(host, port.to_i)
      @socket.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1)
    end

    # Waits for the next event.
    def next
      @socket.write("GET #{PATH}/invocation/next HTTP/1.1\r\n#{@host}\r\n")
      status, headers, body = answer
      abort("the Runtime API answered #{status}") if status != 200
      Event.new(headers.fetch("lambda-runtime-aws-request-id"), headers, body)
    end

    def post(path, headers, body)
      lines = headers.map { |name, value| "#{name}: #{value}\r\n" }.join
      head = "POST #{PATH}/#{path} HTTP/1.1\r\n#{@host}Content-Length: #{body.bytesize}\r\n#{lines}\r\n"
      @socket.write(head, body)
      answer
    end

    private

    def answer
      status = line.split(" ", 3)[1].to_i
      headers = {}
      until (text = line).empty?
        name, value = text.split(":", 2)
        headers[name.downcase] = value.strip
      end
      [status, headers, read(headers.fetch("content-length", 0).to_i)]
    end

    def line
      text = @socket.gets("\r\n", chomp: true)
      text || raise(EOFError, "the Runtime API closed the connection")
    end

    def read(length)
      body = length.zero? ? "" : @socket.read(length)
      raise(EOFError, "the Runtime API closed the connection") if body.nil? || body.bytesize < length

      body.dup.force_encoding(Encoding::UTF_8)
    end
  end
end
