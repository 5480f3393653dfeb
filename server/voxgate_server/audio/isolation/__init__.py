"""Strangers' recordings are decoded in processes of their own: `pool` lends them, `process` is what runs in one.

What a process does with the samples is its module's affair: recognise them, or cut them into pieces. Nothing is
imported here: a process imports this package too, and the rest of the server stays out of it.
"""
