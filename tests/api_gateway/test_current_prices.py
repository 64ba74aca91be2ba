"""A batch is written at the prices in force, whatever the process had in memory when it began."""

from datetime import UTC, datetime

OCR = {
    "name": "acme-ocr",
    "display_name": "Acme OCR",
    "currency": "USD",
    "prices": [{"model": "*", "rates": {"pages": {"price": "0.01", "per": 1}}}],
}


def calls(count, *, first=0):
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return [
        {"id": f"c{first + n}", "started_at": now, "provider": "acme-ocr", "usage": {"pages": 3}}
        for n in range(count)
    ]


def log(key, items):
    return key.post("/api/v1/api-gateway/requests?results=all", json={"requests": items}).json


class TestLogAtCurrentPrices:
    def test_prices_a_batch_anew_when_prices_changed_behind_the_book_in_memory(
        self, alice, ingest_key
    ):
        before = log(ingest_key, calls(3))
        alice.post("/api/v1/api-gateway/providers", json=OCR)

        after = log(ingest_key, calls(3, first=3))

        assert before["pricing"]["unpriced"] == 3
        assert after["accepted"] == 3
        assert [result["cost"]["amount"] for result in after["results"]] == ["0.03"] * 3

    def test_still_tells_duplicates_from_new_calls_after_pricing_anew(self, alice, ingest_key):
        items = calls(3)
        log(ingest_key, items)
        alice.post("/api/v1/api-gateway/providers", json=OCR)

        again = log(ingest_key, [*items, *calls(1, first=3)])

        assert (again["accepted"], again["duplicates"]) == (1, 3)
