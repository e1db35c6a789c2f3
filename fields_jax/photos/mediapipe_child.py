"""Finds faces with mediapipe in an environment of its own; `photos.detector` talks to it.

Run as a script by a Python that has mediapipe (whose numpy and protobuf are too old for ours).
Requests and answers are lines of JSON on stdin and stdout; arrays pass through .npy files:

    -> {"image": FILE, "points": FILE}    uint8 [H, W, 3] to read, float32 [F, 478, 3] to write
    <- {"scores": [0.97, null, ...]}      one per face, the largest face first

An answer is {"error": ...} if detection fails. The first line on stdout is {"name": ...}, or
{"error": ...} if no detector can be loaded. Faces are looked for in the whole image, then, if there
are none, in overlapping windows of a half and of a quarter of its sides, because the detectors
reduce their input to about 200 pixels.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys

import numpy as np

LEAST_CONFIDENCE = 0.1  # of mediapipe's own thresholds, as in SMIRK's and TEASER's demos
SAME_FACE = 0.3  # overlap (intersection over union) from which two boxes show one face
MARGIN = 2.0  # side of the window about a detection, in sides of its box
LEAST_SIDE = 16  # pixels; mediapipe fails on images of a few pixels
N_POINTS = 478


class FaceMesh:
    """mediapipe's legacy solutions, which bring their models (up to 0.10.21).

    The face mesh gives no score; a face gets the score of the detection at the same place.
    """

    def __init__(self, mediapipe, options):
        solutions = mediapipe.solutions
        self.name = f"mediapipe {mediapipe.__version__} face mesh"
        self._min_score = options.min_score
        confidence = dict(min_detection_confidence=LEAST_CONFIDENCE)
        mesh = dict(static_image_mode=True, refine_landmarks=True, **confidence)
        self._mesh = solutions.face_mesh.FaceMesh(max_num_faces=options.max_faces, **mesh)
        # 0 sees faces nearer than 2 m, 1 up to 5 m.
        self._detectors = [
            solutions.face_detection.FaceDetection(model_selection=model, **confidence)
            for model in (0, 1)
        ]

    def find(self, image):
        """Points and score of each face of an image."""
        detections = self._detect(image)
        faces = [(points, _score(points, detections)) for points in self._trace(image)]
        for box, score in detections:
            if all(_overlap(box, _box(points)) < SAME_FACE for points, _ in faces):
                corner, window = _window_about(image, box)
                if min(window.shape[:2]) < LEAST_SIDE:
                    continue
                for points in self._trace(window)[:1]:
                    faces.append((points + corner, score))
        return [(points, score) for points, score in faces if score >= self._min_score]

    def _trace(self, image):
        found = self._mesh.process(image).multi_face_landmarks or []
        return [_pixels(face.landmark, image) for face in found]

    def _detect(self, image):
        """Boxes (x0, y0, x1, y1) in pixels and scores, the surest first."""
        height, width = image.shape[:2]
        found = []
        for detector in self._detectors:
            for detection in detector.process(image).detections or []:
                box = detection.location_data.relative_bounding_box
                low, side = np.array([box.xmin, box.ymin]), np.array([box.width, box.height])
                corners = np.concatenate([low, low + side]) * (width, height, width, height)
                found.append((corners, float(detection.score[0])))
        return sorted(found, key=lambda one: -one[1])


class Landmarker:
    """mediapipe's tasks with a face_landmarker.task of the user's; they give no score."""

    def __init__(self, mediapipe, options):
        tasks = mediapipe.tasks
        self.name = f"mediapipe {mediapipe.__version__} face landmarker"
        self._mediapipe = mediapipe
        self._landmarker = tasks.vision.FaceLandmarker.create_from_options(
            tasks.vision.FaceLandmarkerOptions(
                base_options=tasks.BaseOptions(model_asset_path=options.task),
                num_faces=options.max_faces,
                min_face_detection_confidence=options.min_score,
            )
        )

    def find(self, image):
        """Points of each face of an image, without scores."""
        picture = self._mediapipe.Image(
            image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image)
        )
        found = self._landmarker.detect(picture).face_landmarks
        return [(_pixels(face, image), None) for face in found]


def find_at_any_size(detector, image):
    """Faces of the whole image or, if there are none, of smaller and smaller windows of it."""
    height, width = image.shape[:2]
    for parts in (1, 2, 4):
        faces = []
        rows, columns = (np.linspace(0, n - n // parts, 2 * parts - 1) for n in (height, width))
        for top, left in itertools.product(rows.astype(int), columns.astype(int)):
            window = image[top : top + height // parts, left : left + width // parts]
            if min(window.shape[:2]) < LEAST_SIDE:
                continue
            for points, score in detector.find(window):
                faces.append((points + np.array([left, top, 0]), score))
        if faces:
            return _distinct(faces)
    return []


def _distinct(faces):
    """Each face once, the largest first; of two at one place, the one with the higher score."""
    kept = []
    for points, score in sorted(faces, key=lambda face: -(face[1] or 0)):
        if all(_overlap(_box(points), _box(other)) < SAME_FACE for other, _ in kept):
            kept.append((points, score))
    return sorted(kept, key=lambda face: -_area(_box(face[0])))


def _pixels(landmarks, image):
    height, width = image.shape[:2]
    points = np.array([[mark.x, mark.y, mark.z] for mark in landmarks], np.float32)
    return points * np.array([width, height, width], np.float32)


def _score(points, detections):
    """The highest score of a detection at a mesh's place; 0 if there is none."""
    box = _box(points)
    return next((score for place, score in detections if _overlap(place, box) >= SAME_FACE), 0.0)


def _window_about(image, box):
    """Offset (x, y, 0) and pixels of a square about a box, as far as the image reaches."""
    height, width = image.shape[:2]
    half = MARGIN * max(box[2] - box[0], box[3] - box[1]) / 2
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    left, right = np.clip([x - half, x + half], 0, width).astype(int)
    top, bottom = np.clip([y - half, y + half], 0, height).astype(int)
    return np.array([left, top, 0]), np.ascontiguousarray(image[top:bottom, left:right])


def _box(points):
    return np.concatenate([points[:, :2].min(0), points[:, :2].max(0)])


def _area(box):
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)


def _overlap(a, b):
    """Intersection over union of two boxes."""
    both = _area(np.concatenate([np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])]))
    return both / max(_area(a) + _area(b) - both, 1e-9)


def open_detector(options):
    """The detector that this environment can run.

    Raises:
      RuntimeError: it can run none, with the remedy.
    """
    try:
        import mediapipe
    except ImportError as error:
        raise RuntimeError(f"mediapipe cannot be imported there ({error})") from error
    if options.task:
        try:
            return Landmarker(mediapipe, options)
        except Exception as error:  # mediapipe raises many types for a bad model
            raise RuntimeError(f"--task={options.task}: {error}") from error
    if not hasattr(mediapipe, "solutions"):
        raise RuntimeError(
            f"mediapipe {mediapipe.__version__} brings no models: name one with "
            "--task=face_landmarker.task, or use the version that `make landmarks` installs"
        )
    return FaceMesh(mediapipe, options)


def main():
    """Answers requests until stdin closes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", default="")
    parser.add_argument("--max_faces", type=int, default=10)
    parser.add_argument("--min_score", type=float, default=0.5)
    options = parser.parse_args()
    # Whatever mediapipe prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        detector = open_detector(options)
    except RuntimeError as error:
        print(json.dumps({"error": _one_line(error)}), file=answers)
        return
    print(json.dumps({"name": detector.name}), file=answers)
    for line in sys.stdin:
        try:
            answer = answer_to(json.loads(line), detector, options.max_faces)
        except Exception as error:  # mediapipe raises many types
            answer = {"error": _one_line(error)}
        print(json.dumps(answer), file=answers)


def answer_to(request, detector, max_faces):
    """Finds the faces of one image and writes their points."""
    image = np.load(request["image"], allow_pickle=False)
    faces = find_at_any_size(detector, image)[:max_faces]
    points = np.array([points for points, _ in faces], np.float32).reshape(-1, N_POINTS, 3)
    np.save(request["points"], points)
    return {"scores": [score for _, score in faces]}


def _one_line(error):
    return " ".join(str(error).split())[:300] or type(error).__name__


if __name__ == "__main__":
    main()
