"""Speech: text that becomes audio once. It is cut into segments, and each is paid for once."""
