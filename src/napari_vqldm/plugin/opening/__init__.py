"""Open a stack from a file, with a choice where the file leaves one."""
