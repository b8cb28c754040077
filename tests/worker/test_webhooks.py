"""Who may be told of jobs, and what is told: the list, addresses, signatures, order, repeats, and a real worker."""

from __future__ import annotations

import base64
import json
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from ouzel.endpoints.description.secrets import Secret
from ouzel.errors import FailedPrecondition, InvalidArgument, Unavailable
from ouzel.worker.store.job import NewJob
from ouzel.worker.store.notices import Notice
from ouzel.worker.store.open import open_store
from ouzel.worker.store.protocol import Store
from ouzel.worker.webhooks import addresses, deliverer, receivers, signing
from ouzel.worker.webhooks.deliverer import Deliverer
from ouzel.worker.webhooks.receivers import Receiver, Receivers
from ouzel.worker.webhooks.sending import Sender
from ouzel_protos.v1 import job_pb2 as pb
from support.hooks import Hook, listening
from support.jobs import count, until, worker

ONE, TWO = (f"whsec_{base64.b64encode(bytes([byte]) * 32).decode()}" for byte in (1, 2))
URL = "https://hooks.example.com/ci/"


def receiver(url: str = URL, *secrets: str, **more: Any) -> Receiver:
    return Receiver("ci", url, tuple(map(Secret, secrets or (ONE,))), **more)


def told(url: str, **more: Any) -> NewJob:
    return NewJob(pb.JobSpec(maximize=pb.MaximizeSpec(model="lite0"), notify=url), **more)


class Counted:
    """Counts outcomes, as the worker's metrics do."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []

    def webhook(self, _receiver: str, outcome: str) -> None:
        self.outcomes.append(outcome)


@pytest.fixture
def store(url: str) -> Any:
    store = open_store(url)
    yield store
    store.close()


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/ci",  # beside it
        "https://hooks.example.com/ci/../admin",
        "https://hooks.example.com/ci/%2e%2e/admin",
        "https://hooks.example.com/ci/..%2Fadmin",
        "https://hooks.example.com/ci//evil.example",
        "https://hooks.example.com.evil.example/ci/",
        "https://hooks.example.com@evil.example/ci/",
        "https://hooks.example.com:8443/ci/",
        "http://hooks.example.com/ci/",
        "HTTPS://hooks.example.com/ci/",
        "https://hooks.example.com/ci/x#y",
        "https://hooks.example.com/ci/a b",
        "https://hooks.example.com/ci/\r\nHost: evil",
        "https://hooks.example.com/ci/\\evil",
        "https://hooks.example.com/ci/" + "x" * 1024,
        "file:///etc/passwd",
    ],
)
def test_addresses_that_are_not_on_the_list(url: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^notify: .* is not among the addresses"):
        Receivers((receiver(),)).check(url, "alice")


def test_the_list_is_by_owner() -> None:
    both = Receivers((receiver(owners=("alice",)), Receiver("all", "http://a.example/x", (Secret(TWO),))))
    both.check("", "bob")
    both.check(URL + "job?x=1", "alice")
    both.check("http://a.example/x", "bob")
    for url in (URL + "job", "http://a.example/x/y"):
        with pytest.raises(InvalidArgument, match="notify: "):
            both.check(url, "bob")
    with pytest.raises(InvalidArgument, match="admits no webhooks"):
        receivers.NOBODY.check(URL, "alice")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[receivers.ci]\nsecrets = 'x'", "receivers.ci.url: missing"),
        (f"[receivers.ci]\nurl = '{URL}'", "0 are not 1 or 2"),
        (f"[receivers.ci]\nurl = '{URL}'\nsecrets = 'abc'", "receivers.ci.secrets: a secret begins with whsec_"),
        (f"[receivers.ci]\nurl = '{URL}'\nsecrets = 'whsec_AAAA'", "the key has 3 bytes"),
        (f"[receivers.ci]\nurl = 'https://a.example'\nsecrets = '{ONE}'", "has no path"),
        (f"[receivers.ci]\nurl = 'ftp://a.example/'\nsecrets = '{ONE}'", "is not a URL of http, https"),
        (f"[receivers.ci]\nurl = '{URL}'\nsecrets = '{ONE}'\nowner = 'a'", "receivers.ci.owner: unknown"),
        (f"[receivers.ci]\nurl = '{URL}'\nsecrets = '{ONE}'\nowners = 'a'", "is not a list of strings"),
        (f"[receivers.ci]\nurl = '{URL}'\nsecrets = '{ONE}'\ntimeout_s = 60", "60 s is not within 0.1..30 s"),
        (
            "".join(f"[receivers.{n}]\nurl = '{URL}{n}/'\nsecrets = '{ONE}'\n" for n in ("a", "b"))
            + f"[receivers.c]\nurl = '{URL}'\nsecrets = '{ONE}'\n",
            "a lies within c",
        ),
        ("[receivers]\nci = 3", "is not a table"),
        ("nothing = 1", "nothing: unknown"),
        ("[", "is not TOML"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "webhooks.toml"
    path.write_text(text)
    with pytest.raises(InvalidArgument, match=problem) as caught:
        receivers.read(path)
    assert ONE not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b:1::7f00:1", False),  # a translation within a network
        ("::ffff:0:127.0.0.1", False),
        ("::127.0.0.1", False),
        ("fec0::1", False),
        ("192.0.0.192", False),  # metadata of a cloud
        ("168.63.129.16", False),
        ("64:ff9b::5db8:d822", True),
        ("2002:7f00:1::", False),
        ("ff02::1", False),
        ("name", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert addresses.is_public(address) is public


def test_every_address_of_a_name_counts() -> None:
    both = lambda *_: ["93.184.216.34", "127.0.0.1"]  # noqa: E731
    with pytest.raises(FailedPrecondition, match="not of the public internet"):
        addresses.address("a.example", 443, private=False, resolve=both)
    assert addresses.address("a.example", 443, private=True, resolve=both) == "93.184.216.34"
    with pytest.raises(Unavailable, match="cannot be resolved"):
        addresses.address("a.example", 443, private=True, resolve=lambda *_: [])
    with pytest.raises(FailedPrecondition, match="not of the public internet"):
        addresses.address("localhost", 80, private=False)


def test_the_example_of_the_specification() -> None:
    # From the specification's own test vectors, which its libraries share.
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    made = signing.headers([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert made["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_messages_are_verified_by_the_library_of_others(store: Store) -> None:
    with listening() as hook:
        sender = Sender()
        job = store.create("alice", told(hook.url + "x?y=1", labels={"team": "birds"}))
        notice = store.take_notice(hook.url, 60)
        assert notice is not None
        assert not sender.send(receiver(hook.url, ONE, TWO, private=True), notice)
        (got,) = hook.requests
        assert got.path == "/hooks/x?y=1"
        for secret in (ONE, TWO):
            message = Webhook(secret).verify(got.body, got.headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(f"whsec_{base64.b64encode(bytes(32)).decode()}").verify(got.body, got.headers)
        assert got.headers["webhook-id"] == f"{job.id}-1"
        assert message["type"] == "job.queued"
        data = message["data"]
        assert data["id"] == job.id
        assert data["labels"] == {"team": "birds"}
        assert (data["state"], data["previous"], data["attempt"], data["sequence"]) == ("QUEUED", None, 0, 1)


def test_each_job_is_told_in_order_and_again_after_a_failure(store: Store) -> None:
    with listening() as hook:
        one, two = (store.create("alice", told(hook.url)) for _ in range(2))
        for job in (one, two):
            store.cancel("alice", job.id)  # CANCELLING, CANCELLED: three messages each
        hook.statuses = [500, 200, 302, 200, 200, 200, 200, 200]
        counted = Counted()
        where = receiver(hook.url, private=True)
        delivering = Deliverer(store, Receivers((where,)), Sender(), counted)
        first = store.take_notice(hook.url, 60)  # of the first job: another worker is at it
        assert first is not None
        assert first.job == one.id
        assert delivering.deliver(where)  # of the second: fails
        assert not delivering.deliver(where)  # the first is taken, the second waits, and what follows waits for them
        store.settle_notice(first, 0.0)
        deliverer_waits(store, hook)
        while delivering.deliver(where):
            pass
        assert counted.outcomes.count("delivered") < 6  # one was redirected, and waits
        assert len(hook.elsewhere) == 0
        deliverer_waits(store, hook)
        while delivering.deliver(where):
            pass
        assert counted.outcomes.count("delivered") == 6
        taken = [each for each, status in zip(hook.requests, hook.answered, strict=True) if status == 200]
        for job in (one, two):
            sequences = [json.loads(each.body)["data"]["sequence"] for each in taken if job.id in str(each.headers)]
            assert sequences == sorted(set(sequences))
            assert len(sequences) == 3


def deliverer_waits(store: Store, hook: Hook) -> None:
    """As if the time between two attempts had passed."""
    from ouzel.worker.store.sql import SqlStore

    assert isinstance(store, SqlStore)
    store._db.write(lambda c: c.run("UPDATE notices SET due = 0"))


def test_who_takes_a_notice_again_has_it(store: Store) -> None:
    store.create("alice", told(URL))
    first = store.take_notice(URL, 0.0)
    second = store.take_notice(URL, 60.0)  # the first one is thought to be gone
    assert first is not None
    assert second is not None
    assert (first.number, first.tries, second.tries) == (second.number, 1, 2)
    store.settle_notice(first, None)  # comes back late: it is not its any more
    store.settle_notice(second, 0.0)
    assert store.take_notice(URL, 60.0) is not None
    assert store.take_notice(URL, 60.0) is None


def test_given_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as hook:
        where, counted = receiver(hook.url, private=True), Counted()
        delivering = Deliverer(store, Receivers((where,)), Sender(), counted)
        store.create("alice", told(hook.url))
        hook.statuses = [410]  # Gone
        assert delivering.deliver(where)
        store.create("alice", told(hook.url))
        monkeypatch.setattr(deliverer, "LONGEST", 0.0)
        hook.statuses = [503]
        assert delivering.deliver(where)
        assert not delivering.deliver(where)
        assert counted.outcomes == ["given_up"] * 2
        store.create("alice", told(hook.url + "more"))
        gone = Deliverer(store, Receivers(), Sender(), counted)  # the operator has taken it from the list
        assert gone.deliver(where)
        assert len(hook.requests) == 2


def test_a_silent_receiver_and_none_at_all(store: Store) -> None:
    store.create("alice", told("http://127.0.0.1:9/x"))
    notice = store.take_notice("http://127.0.0.1:9/x", 0.0)
    assert notice is not None
    assert "connection failed" in Sender().send(receiver("http://127.0.0.1:9/x", private=True), notice)
    assert "not of the public internet" in Sender().send(receiver("http://127.0.0.1:9/x"), notice)
    with listening(silent=True) as hook:
        silent = Notice(**{**vars(notice), "url": hook.url})
        problem = Sender().send(receiver(hook.url, private=True, timeout_s=0.3), silent)
        assert problem == "no answer within 0.3 s" or "TimeoutError" in problem


def test_certificates_are_those_of_the_name(store: Store) -> None:
    authority = trustme.CA()
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    for name, good in (("hooks.example.com", True), ("other.example.com", False)):
        with listening(certificate=authority.issue_cert(name)) as hook:
            url = f"https://hooks.example.com:{hook.port}/hooks/"
            store.create("alice", told(url))
            notice = store.take_notice(url, 60.0)
            assert notice is not None
            problem = Sender(lambda *_: ["127.0.0.1"], tls).send(receiver(url, private=True), notice)
            assert bool(problem) is not good
            assert [each.headers["host"] for each in hook.requests] == [f"hooks.example.com:{hook.port}"] * good


def test_a_real_worker_tells(url: str, tmp_path: Path) -> None:
    with listening() as hook:
        file = tmp_path / "webhooks.toml"
        file.write_text(f'[receivers.ci]\nurl = "{hook.url}"\nsecrets = "{ONE}"\nprivate = true\n')
        with worker(url, tmp_path / "state", "--webhooks", str(file)) as running:
            spec = count(3)
            spec.notify = hook.url + "jobs"
            job = running.create(spec)
            running.result(job.id)
            until(lambda: len(hook.requests) == 4, 30)
        states = [Webhook(ONE).verify(each.body, each.headers)["data"]["state"] for each in hook.requests]
        assert states == ["QUEUED", "RUNNING", "PUBLISHING", "SUCCEEDED"]
