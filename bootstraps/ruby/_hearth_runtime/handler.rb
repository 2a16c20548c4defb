# frozen_string_literal: true

require "stringio"

module HearthRuntime
  # The handler that a function names: `file.method`, or `file.Class.method`.
  class Handler
    def initialize(name)
      parts = name.split(".")
      case parts.size
      when 2 then @file, @method = parts
      when 3 then @file, @class, @method = parts
      else
        raise ArgumentError, "Invalid handler #{parts}, must be of form FILENAME.METHOD or FILENAME.CLASS.METHOD where " \
                             "FILENAME corresponds with an existing Ruby source file FILENAME.rb, CLASS is an optional " \
                             "module/class namespace and METHOD is a callable method. If using CLASS, METHOD must be a " \
                             "class-level method."
      end
    end

    def load
      $LOAD_PATH.unshift(Dir.pwd) unless $LOAD_PATH.include?(Dir.pwd)
      require @file
    end

    # The answer, and its content type.
    def call(event, context)
      receiver = @class ? Kernel.const_get(@class) : TOPLEVEL_BINDING.receiver
      answer = receiver.__send__(@method, event: event, context: context)
      case answer
      when StringIO, IO then [answer.read, "application/unknown"]
      else [answer.to_json, "application/json"]
      end
    end
  end
end
