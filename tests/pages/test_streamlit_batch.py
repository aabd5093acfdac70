"""The gallery of Streamlit's page, whose script is begun anew by everything that a visitor does."""

from threading import Thread

from captionbot.pages.streamlit import batch
from captionbot.pages.workbench import Bench


def test_a_visitor_who_writes_meanwhile_neither_stops_nor_loses_photos(monkeypatch):
    monkeypatch.setattr(batch.st, "rerun", lambda: None)
    monkeypatch.setattr(batch, "PHOTOS_AT_ONCE", 2)
    failed = []

    def proposed():
        yield 0
        inner.start()  # a second run of the script, while this one captions
        yield 1
        yield from (2, 3)

    def run():
        try:
            batch.step(job)
        except ValueError as error:
            failed.append(error)

    inner = Thread(target=run)
    job = batch.Job(Bench("tiny", 4), (), proposed())
    batch.step(job)
    inner.join()
    assert (failed, job.bench.cards) == ([], [0, 1, 2, 3])
