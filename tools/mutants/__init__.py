"""`make mutants`: the package changed in one place at a time, to see which changes no test notices.

The changes are mutmut's, and a few more (`changes`). mutmut's own runner leaves alone what stands outside of functions
or in decorated ones. Here that is the heart: the table of states, the progress of a thread. So the running is ours
(`trials`): a process is forked for each mutant, which imports the changed source instead of the file, and runs the
tests that come past the changed lines, the fastest first, until one fails. No file is changed.
"""
