"""TFDS builder: a folder of photographs with mediapipe's points beside each."""
