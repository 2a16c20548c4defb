"""The entry of Hearth's Python runtimes. All else is compiled ahead; this file is read at every start."""

from _hearth_runtime.serve import main

main()
