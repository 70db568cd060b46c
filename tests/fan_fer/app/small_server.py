"""`fan-fer serve` with a random network that reads red squares: python small_server.py FOLDER WORKERS PORT

A picture that is blue all over kills the process that reads it.
"""

import sys
from contextlib import closing
from pathlib import Path

from fan_fer.app import desk
from fan_fer.app.desk import Desk
from fan_fer.app.reading import Networks
from fan_fer.app.server import make_app
from fan_fer.app.uploads import Limits
from fan_fer.base.emotions import EMOTIONS
from fan_fer.cli.serving import LOCAL, address, answer, listen

HERE = Path(__file__).parents[1]


def load() -> list:
    import os
    import signal
    import sys

    sys.path.insert(0, str(HERE))
    import torch
    from fakes import PREPROCESSING, SquareDetector

    from fan_fer import FrameAttentionNetwork, Recognizer
    from fan_fer.attention.weights import ModelCard

    class Mortal(SquareDetector):
        def detect(self, image):
            if image[..., 2].min() > 200:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().detect(image)

    torch.set_num_threads(1)
    card = ModelCard("fan", PREPROCESSING)
    return [Recognizer(FrameAttentionNetwork("fan"), card, weights_file="random", detector=Mortal())]


if __name__ == "__main__":
    data, workers, port = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    networks = Networks(("random",), tuple(EMOTIONS), load)
    desk.PAUSE = 0.5
    with listen(LOCAL, port) as listener, closing(Desk(networks, Limits(clips=1000), workers, 600.0, data)) as opened:
        print(address(listener), flush=True)
        answer(make_app(opened), listener)
