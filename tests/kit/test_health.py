class TestShowReadiness:
    def test_says_ready_when_every_part_answers(self, anonymous):
        answer = anonymous.get("/health/ready")

        assert answer.status_code == 200
        assert answer.json == {"status": "ready", "degraded": []}
