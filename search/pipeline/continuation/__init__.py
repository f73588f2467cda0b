"""What goes on from a run that is there: resumed, settled, extended, ablated, or another run begun from its front.

A finished run is never changed, only added to: `kept` keeps each verdict, numbered, before a further one is written.
"""
