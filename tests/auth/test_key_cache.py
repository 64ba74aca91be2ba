from datetime import UTC, datetime

from app.auth.key_cache import BoundProject, KeyCache, KeyIdentity
from app.kit.ids import new_id


def identity(*, project_id=None):
    organization_id = new_id()
    return KeyIdentity(
        key_id=new_id(),
        organization_id=organization_id,
        user_id=None,
        role="ingest",
        scopes=frozenset({"api_requests:write"}),
        project=BoundProject(project_id, organization_id, "Checkout") if project_id else None,
        label="key",
        expires_at=datetime(2100, 1, 1, tzinfo=UTC),
    )


class TestKeyCache:
    def test_knows_a_key_for_its_lifetime_and_no_longer(self):
        cache, known = KeyCache(lifetime_s=2.0), identity()
        cache.keep(b"key", known, clock_s=100.0)

        assert cache.find(b"key", clock_s=101.4) is known
        assert cache.find(b"key", clock_s=102.0) is None

    def test_sends_one_caller_ahead_before_the_end_and_serves_the_others(self):
        cache, known = KeyCache(lifetime_s=2.0), identity()
        cache.keep(b"key", known, clock_s=100.0)

        assert cache.find(b"key", clock_s=101.6) is None
        assert cache.find(b"key", clock_s=101.6) is known
        assert cache.find(b"key", clock_s=101.9) is known
        assert cache.find(b"key", clock_s=102.0) is None

    def test_drops_what_the_one_ahead_found_dead(self):
        cache = KeyCache()
        cache.keep(b"key", identity(), clock_s=0)

        cache.drop(b"key")

        assert cache.find(b"key", clock_s=0) is None

    def test_knows_nothing_of_another_key(self):
        cache = KeyCache()
        cache.keep(b"key", identity(), clock_s=0)

        assert cache.find(b"other", clock_s=0) is None

    def test_gives_up_the_oldest_when_full(self):
        cache = KeyCache(most_entries=2)
        for place, digest in enumerate((b"first", b"second", b"third")):
            cache.keep(digest, identity(), clock_s=place)

        assert cache.find(b"first", clock_s=2) is None
        assert cache.find(b"second", clock_s=2) is not None
        assert cache.find(b"third", clock_s=2) is not None

    def test_forgets_a_revoked_key_at_once(self):
        cache, revoked, other = KeyCache(), identity(), identity()
        cache.keep(b"revoked", revoked, clock_s=0)
        cache.keep(b"other", other, clock_s=0)

        cache.forget(revoked.key_id)

        assert cache.find(b"revoked", clock_s=0) is None
        assert cache.find(b"other", clock_s=0) is other

    def test_forgets_the_keys_of_a_changed_project_at_once(self):
        cache, changed, other = KeyCache(), identity(project_id=new_id()), identity()
        cache.keep(b"changed", changed, clock_s=0)
        cache.keep(b"other", other, clock_s=0)

        cache.forget_project(changed.project.id)

        assert cache.find(b"changed", clock_s=0) is None
        assert cache.find(b"other", clock_s=0) is other
