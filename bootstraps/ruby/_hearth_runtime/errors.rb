# frozen_string_literal: true

module HearthRuntime
  # An error as callers are told of it and as the log shows it (spec 2.2), and as AWS classes it.
  class Reported
    FRAMES_MAX = 100
    # Classes that are named to the platform; all others are the user's.
    NAMED = %w[ArgumentError NoMethodError Exception StandardError NameError LoadError SystemExit SystemStackError].freeze

    # `part`: `Function` or `Init`.
    def initialize(error, part)
      @name = error.class.to_s
      @type = "#{part}<#{@name}>"
      # The first frame of the bootstrap's own ends what is the function's.
      frames = (error.backtrace_locations || []).first(FRAMES_MAX).take_while { |frame| !frame.path.to_s.start_with?(__dir__) }
      @payload = { errorMessage: error.message, errorType: @type, stackTrace: frames.map(&:to_s) }
    end

    def headers
      {
        "Content-Type" => "application/json",
        "Lambda-Runtime-Function-Error-Type" => NAMED.include?(@name) ? @type : "Function<UserException>"
      }
    end

    def body
      JSON.generate(Text.valid(@payload))
    end

    def log(said)
      Output.record(said)
      Output.record(JSON.pretty_generate(Text.valid(@payload)))
    end
  end

  # JSON has room only for text that is UTF-8.
  module Text
    def self.valid(value)
      case value
      when Hash then value.transform_values { |one| valid(one) }
      when Array then value.map { |one| valid(one) }
      else value.to_s.encode(Encoding::UTF_8, invalid: :replace, undef: :replace).scrub
      end
    end
  end
end
