# frozen_string_literal: true

require "logger"

module HearthRuntime
  # Standard output, unbuffered, and records of the log: what `puts` and `Logger` write.
  module Output
    # A record without a level, with the time at which it was made.
    PLAIN = 0xA55A0003
    LOG_FD = ENV.delete("_LAMBDA_TELEMETRY_LOG_FD")
    JSON_FORMAT = ENV["AWS_LAMBDA_LOG_FORMAT"].to_s.casecmp?("JSON")
    LEVELS = { "TRACE" => 0, "DEBUG" => 0, "INFO" => 1, "WARN" => 2, "ERROR" => 3, "FATAL" => 4 }.freeze

    class << self
      # The request that log lines name.
      attr_accessor :request_id

      # Has left the process when this returns.
      def record(text)
        if @frames
          now = Process.clock_gettime(Process::CLOCK_REALTIME, :microsecond)
          @frames.write([PLAIN, text.bytesize, now].pack("L>L>Q>") + text.b)
        else
          $stdout.write(text.end_with?("\n") ? text : "#{text}\n")
        end
      end

      def begin
        $stdout.sync = true
        @frames = IO.for_fd(LOG_FD.to_i, "wb", autoclose: false).tap { |file| file.sync = true } if LOG_FD
        Kernel.prepend(Puts)
        Logger.prepend(Standard)
      end
    end

    # `puts` without a receiver is one record, whatever its lines.
    module Puts
      private

      def puts(*values)
        Output.record(values.flatten.map { |value| value.to_s.encode(Encoding::UTF_8) }.join("\n"))
      end
    end

    # A logger that is to write to standard output or error writes records, in AWS's formats.
    module Standard
      def initialize(device = nil, *rest, **options)
        return super unless device.nil? || [$stdout, $stderr].include?(device)

        options[:level] ||= LEVELS.fetch(ENV["AWS_LAMBDA_LOG_LEVEL"].to_s.upcase, 0) if JSON_FORMAT
        super(Device.new, *rest, **options)
        @default_formatter = JSON_FORMAT ? Records.new : Lines.new
      end
    end

    # What such a logger writes to.
    class Device
      def write(text)
        Output.record(text)
      end

      def close; end
    end

    # Text.
    class Lines < Logger::Formatter
      def call(severity, time, program, message)
        said = "#{severity.rjust(5)} #{Output.request_id} -- #{program}: #{msg2str(message)}"
        "#{severity[0]}, [#{format_datetime(time)} ##{Process.pid}] #{said}\n"
      end
    end

    # JSON.
    class Records < Logger::Formatter
      def call(severity, time, program, message)
        record = { timestamp: time.utc.strftime("%Y-%m-%dT%H:%M:%S.%6NZ"), level: severity }
        record[:message] = message.is_a?(Exception) ? message.message : msg2str(message)
        record[:requestId] = Output.request_id
        record[:logger] = program unless program.to_s.empty?
        record.merge!(described(message)) if message.is_a?(Exception)
        "#{JSON.generate(Text.valid(record.compact))}\n"
      end

      private

      def described(error)
        place = /\A(?<file>.+):(?<line>\d+):in [`'](?<method>.+)'\z/.match(error.backtrace&.first.to_s)
        {
          errorType: error.class.to_s, errorMessage: error.message, stackTrace: error.backtrace || [],
          location: place && "#{place[:file]}:#{place[:method]}:#{place[:line]}"
        }
      end
    end
  end
end
