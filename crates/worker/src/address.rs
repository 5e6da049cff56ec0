//! Which addresses may be called.
//!
//! A hook's URL comes from a customer; without a guard it could point at the operator's own
//! network. The guard checks the address of the connection, however it was written or resolved.
//! Ranges: the IANA special-purpose registries (RFC 6890 and its successors), and the metadata
//! services of clouds.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Ranges that must not be called unless allowed by `worker.allow_addresses`.
const SPECIAL_PURPOSE: [&str; 34] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    // Azure's wire server, in a public range.
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "64:ff9b:1::/48",
    "100::/64",
    "100:0:0:1::/64",
    "2001::/23",
    "2001:db8::/32",
    "2620:4f:8000::/48",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
    "::ffff:0:0:0/96",
];

/// Decides which addresses may be called.
#[derive(Clone, Debug)]
pub struct AddressGuard {
    special: Vec<IpNet>,
    allowed: Vec<IpNet>,
}

/// The address must not be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is a private or special-purpose address")]
pub struct BlockedAddress(pub IpAddr);

impl AddressGuard {
    /// A guard that allows these special-purpose ranges.
    pub fn new(allowed: &[IpNet]) -> Self {
        Self {
            special: SPECIAL_PURPOSE
                .iter()
                .filter_map(|range| range.parse().ok())
                .collect(),
            allowed: allowed.to_vec(),
        }
    }

    /// Whether `address` may be called.
    ///
    /// An IPv6 address that embeds an IPv4 address (mapped, compatible, NAT64, 6to4) is checked as
    /// both.
    ///
    /// # Errors
    /// [`BlockedAddress`] when it must not.
    pub fn check(&self, address: IpAddr) -> Result<(), BlockedAddress> {
        let embedded = match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => embedded_v4(v6).map(IpAddr::V4),
        };
        let allowed = |ip: IpAddr| self.allowed.iter().any(|net| net.contains(&ip));
        if allowed(address) || embedded.is_some_and(allowed) {
            return Ok(());
        }
        let special = |ip: IpAddr| self.special.iter().any(|net| net.contains(&ip));
        match special(address) || embedded.is_some_and(special) {
            true => Err(BlockedAddress(address)),
            false => Ok(()),
        }
    }
}

/// The IPv4 address that an IPv6 address embeds.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = address.octets();
    let v4 = |at: usize| {
        Some(Ipv4Addr::new(
            octets[at],
            octets[at + 1],
            octets[at + 2],
            octets[at + 3],
        ))
    };
    match address.segments() {
        // ::/96 (compatible) and ::ffff:0:0/96 (mapped)
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _] => v4(12),
        // 64:ff9b::/96 (NAT64)
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => v4(12),
        // 2002::/16 (6to4)
        [0x2002, ..] => v4(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_of_the_table_parses() {
        assert_eq!(AddressGuard::new(&[]).special.len(), SPECIAL_PURPOSE.len());
    }

    #[test]
    fn special_addresses_are_blocked_in_every_form() {
        let guard = AddressGuard::new(&[]);
        for blocked in [
            "0.0.0.0",
            "10.1.2.3",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.0.1",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a00:1::",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "3fff::1",
            "5f00::1",
        ] {
            let address: IpAddr = blocked.parse().unwrap();
            assert_eq!(guard.check(address), Err(BlockedAddress(address)));
        }
        for open in [
            "1.1.1.1",
            "93.184.216.34",
            "2606:4700::1111",
            "64:ff9b::101:101",
            "2002:101:101::",
        ] {
            assert_eq!(guard.check(open.parse().unwrap()), Ok(()), "{open}");
        }
    }

    #[test]
    fn allowed_ranges_pass_and_no_others() {
        let guard =
            AddressGuard::new(&["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        for open in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(guard.check(open.parse().unwrap()), Ok(()), "{open}");
        }
        for blocked in ["10.0.0.1", "::2", "169.254.169.254"] {
            assert!(guard.check(blocked.parse().unwrap()).is_err(), "{blocked}");
        }
    }
}
