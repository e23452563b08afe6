"""No name, message or log shows the password of an address, wherever it stands; and what is no secret stays readable."""

import pytest

from detection.errors import shown
from detection.masking import without_secrets


@pytest.mark.parametrize(
    "address, expected",
    [
        ("rtsp://bob:hunter2@10.0.0.7:554/main", "rtsp://10.0.0.7:554/main"),
        ("rtsp://bob:hunter2/9@10.0.0.7/main", "rtsp://10.0.0.7/main"),
        ("rtsp://bob:12#hunter2@10.0.0.7/main", "rtsp://10.0.0.7/main"),
        ("rtsp://bob:a@hunter2@10.0.0.7/main", "rtsp://10.0.0.7/main"),
        ("rtsp://10.0.0.7/user=bob_password=hunter2_channel=1", "rtsp://10.0.0.7/user=***_password=***_channel=1"),
        ("rtsp://10.0.0.7/user=bob&password=hunter2&channel=1", "rtsp://10.0.0.7/user=***&password=***&channel=1"),
        ("http://cam/snap.cgi?user=bob&pwd=hunter2&channel=1", "http://cam/snap.cgi?user=***&pwd=***&channel=1"),
        ("http://cam/snap.cgi?loginuse=bob&loginpas=hunter2", "http://cam/snap.cgi?loginuse=***&loginpas=***"),
        ("http://cam/snap.jpg?u=bob&p=hunter2", "http://cam/snap.jpg?u=***&p=***"),
        ("http://cam/snap.jpg?pass%77ord=hunter2", "http://cam/snap.jpg?pass%77ord=***"),
        ("http://cam/a.jpg?whatever=hunter", "http://cam/a.jpg?whatever=***"),
        (
            "https://b.s3.amazonaws.com/a.jpg?X-Amz-Signature=hunter2",
            "https://b.s3.amazonaws.com/a.jpg?X-Amz-Signature=***",
        ),
        ("rtmp://live.example.org/app/hunter2-key", "rtmp://live.example.org/app/***"),
        ("rtsps://nvr:7441/aB3dE5gH7jK9mN1p?enableSrtp", "rtsps://nvr:7441/***?enableSrtp"),
        ("http://tv:8080/live/bob/hunter2/123.ts", "http://tv:8080/live/***/***/123.ts"),
        ("http://cam/password/hunter2/1.jpg", "http://cam/password/***/1.jpg"),
        ("http://cam/bob:hunter2/1.jpg", "http://cam/bob:***/1.jpg"),
        ("srt://10.0.0.7:9000?streamid=bob&passphrase=hunter2", "srt://10.0.0.7:9000?streamid=***&passphrase=***"),
        ("s3://KEY:hunter2@bucket/a.jpg", "s3://bucket/a.jpg"),
        (
            "cannot fetch http://bob:hunter2@h/a.jpg (url='http://h/a?sig=hunter2')",
            "cannot fetch http://h/a.jpg (url='http://h/a?sig=***')",
        ),
    ],
)
def test_a_secret_is_left_out(address, expected):
    assert without_secrets(address) == shown(address) == expected


@pytest.mark.parametrize(
    "address",
    [
        "/home/bob/user=1/b.jpg",
        "s3://bucket/user=alice/date=2024-01-01/0b5a0ad3c1f9e77aa0123.jpg",
        "s3://bucket/a@2x.jpg",
        "https://host/image?id=3",
        "https://host/2024/IMG_20240101_123456.jpg",
        "https://host/0b5a0ad3c1f9e77aa0123.jpg",
        "rtsp://cam/Streaming/Channels/101",
        "rtsp://cam/h264Preview_01_main",
        "rtsp://cam/cam/realmonitor?channel=1&subtype=0",
        "http://cam/axis-cgi/mjpg/video.cgi?resolution=640x480&fps=5",
        "http://cam/api.cgi?cmd=Snap&channel=0",
        "udp://239.0.0.1:1234",
        "no address at all",
    ],
)
def test_what_is_no_secret_stays(address):
    assert without_secrets(address) == address
