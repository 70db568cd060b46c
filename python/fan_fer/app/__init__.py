"""The page of ``fan-fer app``: a server for this computer alone, and the page that it shows (docs/app.md).

``server`` answers requests, ``desk`` holds the clips and reads one at a time, ``reading`` is what happens to a clip.
"""
