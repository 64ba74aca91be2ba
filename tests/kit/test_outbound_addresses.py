from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kit.outbound.addresses import METADATA, may_reach
from app.kit.outbound.errors import OutboundRefused
from app.kit.outbound.targets import parse_host, parse_url

# Each stands for a rule of addresses.py or a registry entry.
CLOSED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.9",
    "192.0.0.170",
    "192.0.0.192",
    "192.0.2.1",
    "192.31.196.1",
    "192.52.193.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.175.48.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "::",
    "::1",
    "::2",
    "::7f00:1",
    "::808:808",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "64:ff9b:1:7f00:0:100::",
    "100::1",
    "2001::1",
    "2001:0:808:808::1",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2002:808:808::1",
    "2620:4f:8000::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fe80::a9fe:a9fe",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "2a00:1450:4001:80b:0:5efe:7f00:1",
    "2a00:1450:4001:80b:200:5efe:a00:1",
    "2a00:1450:4001:80b::200e%eth0",
]
OPEN = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.215.14",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.255.255",
    "192.169.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001:80b::200e",
    "2001:4860:4860::8888",
    "2001:200::1",
]
EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))


class TestMayReach:
    @pytest.mark.parametrize("address", CLOSED)
    def test_refuses_what_is_not_public(self, address):
        assert not may_reach(ip_address(address), allowed=())

    @pytest.mark.parametrize("address", OPEN)
    def test_takes_what_is_public(self, address):
        assert may_reach(ip_address(address), allowed=())

    @pytest.mark.parametrize(
        ("address", "network"),
        [
            ("127.0.0.1", "127.0.0.0/8"), ("10.1.2.3", "10.0.0.0/8"), ("::1", "::1/128"),
            ("fd00::1", "fd00::/8"), ("100.64.0.1", "100.64.0.0/10"), ("169.254.1.1", "169.254.0.0/16"),
            ("64:ff9b::808:808", "64:ff9b::/96"), ("198.18.0.1", "198.18.0.0/15"),
        ],
    )  # fmt: skip
    def test_takes_what_the_operator_listed(self, address, network):
        assert may_reach(ip_address(address), allowed=(ip_network(network),))
        assert not may_reach(ip_address(address), allowed=(ip_network("10.9.0.0/16"),))

    @pytest.mark.parametrize(
        ("address", "network"),
        [
            ("64:ff9b::7f00:1", "64:ff9b::/96"), ("64:ff9b::a9fe:a9fe", "64:ff9b::/96"),
            ("2002:a00:1::1", "2002::/16"), ("::ffff:10.0.0.1", "::ffff:0:0/96"),
            ("2001:0:808:808:0:0:f5ff:fffe", "2001::/32"),
        ],
    )  # fmt: skip
    def test_judges_the_inner_address_of_a_listed_network_too(self, address, network):
        assert not may_reach(ip_address(address), allowed=(ip_network(network),))

    def test_does_not_open_the_long_spelling_of_a_listed_network(self):
        allowed = (ip_network("127.0.0.0/8"),)

        assert not may_reach(ip_address("::ffff:127.0.0.1"), allowed=allowed)

    @pytest.mark.parametrize("metadata", METADATA, ids=str)
    def test_opens_metadata_only_by_itself(self, metadata):
        address = metadata.network_address

        assert not may_reach(address, allowed=EVERYTHING)
        assert may_reach(address, allowed=(metadata,))

    @pytest.mark.parametrize(
        "address", ["0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", "::", "ff02::1", "64:ff9b:1::1"]
    )  # fmt: skip
    def test_never_opens_what_is_no_host(self, address):
        assert not may_reach(ip_address(address), allowed=EVERYTHING)

    @given(address=st.ip_addresses(v=4))
    def test_takes_no_ipv4_address_that_the_library_calls_private(self, address):
        if may_reach(address, allowed=()):
            assert address.is_global
            assert not any((address.is_private, address.is_multicast, address.is_reserved))

    @given(address=st.ip_addresses(v=6))
    def test_takes_no_ipv6_address_that_the_library_calls_private(self, address):
        if may_reach(address, allowed=()):
            assert address.is_global
            assert not any((address.is_private, address.is_multicast, address.is_reserved))
            assert not any((address.sixtofour, address.teredo, address.ipv4_mapped))


class TestParseUrl:
    @pytest.mark.parametrize(
        ("url", "scheme", "authority", "port", "path"),
        [
            ("https://example.com", "https", "example.com", 443, "/"),
            ("HTTPS://EXAMPLE.com:443/A?b=c#d", "https", "example.com", 443, "/A?b=c"),
            ("http://example.com?q", "http", "example.com", 80, "/?q"),
            ("http://example.com:8080/", "http", "example.com:8080", 8080, "/"),
            ("https://xn--bcher-kva.example/", "https", "xn--bcher-kva.example", 443, "/"),
            ("http://my_service:80/x", "http", "my_service", 80, "/x"),
            ("http://1.1.1.1/", "http", "1.1.1.1", 80, "/"),
            ("http://[2606:4700:4700:0:0:0:0:1111]:81/", "http", "[2606:4700:4700::1111]:81", 81, "/"),
            ("https://example.com/a@b:c/%20?x=@", "https", "example.com", 443, "/a@b:c/%20?x=@"),
        ],
    )  # fmt: skip
    def test_reads_plain_ones(self, url, scheme, authority, port, path):
        target = parse_url(url)

        assert (target.scheme, target.authority, target.port, target.path) == (
            scheme,
            authority,
            port,
            path,
        )

    @pytest.mark.parametrize(
        ("url", "code"),
        [
            ("ftp://example.com/", "outbound_scheme"),
            ("file:///etc/passwd", "outbound_scheme"),
            ("gopher://127.0.0.1:6379/_x", "outbound_scheme"),
            ("unix://var/run/docker.sock", "outbound_scheme"),
            ("javascript://example.com", "outbound_scheme"),
            ("data:text/plain,x", "outbound_url"),
            ("//example.com/", "outbound_url"),
            ("example.com", "outbound_url"),
            ("", "outbound_url"),
            (" https://example.com/", "outbound_url"),
            ("https:/example.com/", "outbound_url"),
            ("https:\\\\example.com/", "outbound_url"),
            ("https://example.com/ x", "outbound_url"),
            ("https://example.com/\r\nHost: evil", "outbound_url"),
            ("https://example.com/\n", "outbound_url"),
            ("https://example.com/é", "outbound_url"),
            ("https://example.com/a\\b", "outbound_url"),
            ("https://example.com/" + "a" * 5000, "outbound_url"),
            ("https://user@example.com/", "outbound_userinfo"),
            ("https://user:password@example.com/", "outbound_userinfo"),
            ("https://example.com@127.0.0.1/", "outbound_userinfo"),
            ("https://@127.0.0.1/", "outbound_userinfo"),
            ("https://example.com:80:80/", "outbound_host"),
            ("https://example.com:/", "outbound_host"),
            ("https://example.com:http/", "outbound_host"),
            ("https://example.com:999999/", "outbound_host"),
            ("https://:80/", "outbound_host"),
            ("https:///path", "outbound_host"),
            ("https://[::1/", "outbound_host"),
            ("https://[::1]x/", "outbound_host"),
            ("https://[1.1.1.1]/", "outbound_host"),
        ],
    )
    def test_refuses_by_name(self, url, code):
        with pytest.raises(OutboundRefused) as refusal:
            parse_url(url)

        assert refusal.value.code == code
        assert refusal.value.status == 422
        assert "password" not in str(refusal.value).replace("a user name or password", "")


class TestParseHost:
    @pytest.mark.parametrize(
        "text",
        [
            "127.1", "0", "1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0X7F000001", "0177.0.0.1",
            "017700000001", "127.0.0.01", "127.0.0.1.", "127.0.0", "256.1.1.1", "1.2.3.4.5", "127.0.0.0x1",
            "0x", "example.0x1", "example.1", "localhost.", "example.com.", "example..com", ".example.com",
            "-a.example", "a-.example", "a" * 64 + ".example", "a." * 130 + "example", "bücher.example",
            "ⓔxample.com", "127。0。0。1", "\uff11\uff12\uff17.0.0.1", "exa mple.com", "example.com%00", "%31.1.1.1",
            "exam\tple.com", "example.com\n", "[::1]x", "[::1", "::1]", "[]", "", ".", "*", "a,b", "/var/run",
            "[fe80::1%25eth0]", "[fe80::1%eth0]", "fe80::1%eth0", "[::ffff:1.2.3]", "[v1.a]", "a/b", "a\\b",
            "[[::1]]", "example.com:80",
        ],
    )  # fmt: skip
    def test_refuses_odd_spellings(self, text):
        with pytest.raises(OutboundRefused) as refusal:
            parse_host(text)

        assert refusal.value.code == "outbound_host"

    @pytest.mark.parametrize("text", ["[::1]", "::1", "0:0:0:0:0:0:0:1"])
    def test_reads_an_ipv6_address_as_libpq_and_as_a_url_write_it(self, text):
        assert parse_host(text).address == ip_address("::1")

    @pytest.mark.parametrize("text", ["db", "DB.internal", "1a", "a.b.c", "4chan.example", "x1.y2"])
    def test_reads_names(self, text):
        assert (parse_host(text).name, parse_host(text).address) == (text.lower(), None)
