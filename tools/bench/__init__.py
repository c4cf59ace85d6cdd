"""`make bench`: how fast the library is, side by side with what people would use instead.

Each row of the table is a `Row`: what is measured, against what, how far it may go, and a function that measures both
in turns. `figures` says what is made of the measurements.
"""
