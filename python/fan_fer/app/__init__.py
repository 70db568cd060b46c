"""The service of ``fan-fer serve``, and ``fan-fer app``, which is the same with a page (docs/serve.md, docs/app.md).

``server`` puts it together, ``guard`` says who may ask, ``operations`` is what can be asked, ``desk`` holds the clips
and has them read, ``reading`` is what happens to a clip.
"""
