"""Where people would rather look than read; imports the core, never the reverse."""
