"""What was tested, by what."""

import json
import subprocess
from pathlib import Path

REVISION = "org.opencontainers.image.revision"
ROOM_VERSION = "org.matrix.default-room-version"


class Refused(Exception):
    """Why nothing is recorded, as a sentence."""


def about(image, complement, output=None):
    """The commit and the room version that the image bears as labels, and the revision of Complement."""
    output = output or output_of
    labels = _labels(image, output)
    commit = _label(labels, REVISION, image)
    if commit.endswith("-dirty"):
        raise Refused(f"The image {image} was built with changes that are not committed.")
    return {
        "commit": commit,
        "room_version": _label(labels, ROOM_VERSION, image),
        "complement": _revision(Path(complement), output),
    }


def output_of(command):
    """What a command prints."""
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    except OSError as error:
        raise Refused(f"{command[0]} cannot be run: {error.strerror}.") from error
    except subprocess.CalledProcessError as error:
        raise Refused(f"{' '.join(command)} fails: {' '.join(error.stderr.split())}") from error
    return done.stdout.strip()


def _labels(image, output):
    return json.loads(output(["docker", "image", "inspect", "--format", "{{json .Config.Labels}}", image])) or {}


def _label(labels, name, image):
    if not labels.get(name):
        raise Refused(f"The image {image} has no label {name}: build it with complement/image.")
    return labels[name]


def _revision(checkout, output):
    """The commit of a checkout, which must be Complement's."""
    module = checkout / "go.mod"
    if not module.is_file() or not module.read_text().split("\n", 1)[0].strip().endswith("/complement"):
        raise Refused(f"{checkout.resolve()} is no checkout of Complement: run record in one, or name it with --complement.")
    return output(["git", "-C", str(checkout), "rev-parse", "HEAD"])
