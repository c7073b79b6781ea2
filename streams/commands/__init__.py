"""What the `groundswell` command does, one file a group of commands."""
