"""What the user calls: ``normfix COMMAND``, or the file of tools/ that is named like it."""
