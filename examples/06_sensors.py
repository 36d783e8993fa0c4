"""One learner, three addresses: arrays, a recording, a live socket: `python examples/06_sensors.py [URI]`.

With an address (`zmq+tcp://127.0.0.1:5556`, `drive.mcap`) it learns from there: topics `imu` and `steering`.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import tensor as T
from envs.streams import open_stream, record
from tensor import nn, optim
from tensor.data import DataLoader


def learn(where, **options):
    """Tells the steering angle from the last 8 accelerations; the mean loss of each 10 batches, and the network."""
    T.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(8 * 3, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    with open_stream(where, topics=["imu", "steering"], timeout=2.0, **options) as stream:
        aligned = stream.align(rate=50, max_age={"steering": 0.2}, interpolate=["steering"])
        for window in DataLoader(aligned.windows(8).shuffle(256), batch_size=32):
            loss = nn.functional.mse_loss(net(window["imu"])[:, 0], window["steering"][:, -1])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return [float(np.mean(losses[i : i + 10])) for i in range(0, len(losses), 10)], net


def drive(seconds=40, draw=np.random.default_rng(0)):  # noqa: B008
    """A car that winds along: the accelerometer at 100 Hz, the steering angle at 20 Hz."""
    t = np.arange(100 * seconds) / 100
    angle = 0.4 * np.sin(0.7 * t) + 0.2 * np.sin(1.9 * t)
    imu = np.stack([0.1 * np.cos(t), 3.3 * np.tan(angle), np.full_like(t, 9.81)], 1) + draw.normal(0, 0.05, (len(t), 3))
    return {"imu": imu.astype(np.float32), "steering": angle[::5].astype(np.float32)}


def show(name, result):
    print(f"{name:9} loss", "  ".join(f"{loss:.4f}" for loss in result[0]))
    return T.cat([parameter.detach().flatten() for parameter in result[1].parameters()])


if __name__ == "__main__" and len(sys.argv) > 1:
    show("learned", learn(sys.argv[1]))
elif __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        arrays, rates, recording = drive(), {"imu": 100, "steering": 20}, Path(folder) / "drive.mcap"
        record(open_stream(arrays, rates=rates), recording)
        first, others = show("arrays", learn(arrays, rates=rates)), [show("recording", learn(recording))]
        replay = [sys.executable, "-m", "rlcore.cli", "replay", str(recording), "--to", "zmq+tcp://127.0.0.1:0", "--speed", "inf"]
        with subprocess.Popen(replay, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            others.append(show("socket", learn(process.stderr.readline().split()[-1])))
    print("largest difference of a weight:", max((first - other).abs().max().item() for other in others))
