# frozen_string_literal: true

# Started instead of AWS's bootstrap; what it does is beside it.
require_relative "_hearth_runtime/serve"

HearthRuntime.serve(ENV.fetch("_HANDLER", ""))
