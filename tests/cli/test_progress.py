"""The line that says how far long work is, and how long the rest may take."""

from laptime.cli.progress import time_left


def test_the_time_left_is_said_once_a_pace_is_known():
    assert time_left(took_s=0.0, done=0, left=9) == ""  # the first call: no pace yet
    assert time_left(took_s=20.0, done=4, left=0) == ""  # nothing is left
    assert time_left(took_s=20.0, done=4, left=8) == ", about 40\xa0s left at most"
