"""What the commands in tools/ share: command line, runner, resuming, flags of the test."""
