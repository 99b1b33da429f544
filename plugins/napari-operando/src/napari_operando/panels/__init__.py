"""What is drawn with Qt: one file per panel. Panels observe the session, never each other."""
