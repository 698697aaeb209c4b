"""Series become volumes, volumes become sessions, sessions become a volume set."""
