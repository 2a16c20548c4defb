# frozen_string_literal: true

# Hearth's Runtime API client for Ruby.
#
# - `client`: HTTP/1.1 over one kept socket
# - `context`: what a handler is given as its context
# - `errors`: errors as payloads and log records
# - `handler`: finds and calls the handler of a function
# - `output`: standard output, `puts`, and `Logger` in AWS's formats
#
# What functions can see follows AWS's runtime interface client.

require "json"
require_relative "client"
require_relative "context"
require_relative "errors"
require_relative "handler"
require_relative "output"

module HearthRuntime
  # How the process ends: after an init that failed, and after an error that no handler survives.
  INIT_FAILED = 252
  NOT_SURVIVED = 255

  class << self
    def serve(name)
      Output.begin
      client = Client.new(ENV.fetch("AWS_LAMBDA_RUNTIME_API"))
      handler = begun(client, name)
      loop { answer(client, handler, client.next) }
    end

    private

    def begun(client, name)
      Handler.new(name).tap(&:load)
    rescue Exception => error # rubocop:disable Lint/RescueException
      reported = Reported.new(error, "Init")
      reported.log("Init error when loading handler #{name}")
      client.post("init/error", reported.headers, reported.body)
      exit!(INIT_FAILED)
    end

    def answer(client, handler, event)
      Output.request_id = event.id
      trace = event.headers["lambda-runtime-trace-id"]
      ENV["_X_AMZN_TRACE_ID"] = trace if trace
      body, type = handler.call(parsed(event), LambdaContext.new(event.headers))
      client.post("invocation/#{event.id}/response", { "Content-Type" => type }, body)
    rescue NameError => error
      failed(client, event, error, survived: false)
    rescue StandardError => error
      failed(client, event, error, survived: true)
    rescue Exception => error # rubocop:disable Lint/RescueException
      failed(client, event, error, survived: false)
    end

    def parsed(event)
      event.headers["content-type"] == "application/json" ? JSON.parse(event.body) : event.body
    end

    def failed(client, event, error, survived:)
      reported = Reported.new(error, "Function")
      reported.log(survived ? "Error raised from handler method" : "Critical exception from handler")
      client.post("invocation/#{event.id}/error", reported.headers, reported.body)
      exit!(NOT_SURVIVED) unless survived
    end
  end
end
