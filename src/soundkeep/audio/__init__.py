"""What sound is: `sniff` tells a format by its content, `jail` decodes foreign bytes elsewhere.

Nothing in this package but `jail_worker` and what only it imports ever decodes a byte.
"""
