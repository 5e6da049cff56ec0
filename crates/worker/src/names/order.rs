//! The order in which the addresses of a host are tried.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// A port for looking at the route to an address; nothing is sent to it.
const ANY_PORT: u16 = 9;

/// Sorts addresses as the C library would, in short: those that this machine has a route to come
/// first, and among them IPv6 before IPv4, unless only a local address of this machine could be the
/// source. Otherwise the order of the name servers is kept.
pub(super) fn sort(addresses: &mut [IpAddr]) {
    if addresses.len() > 1 {
        addresses.sort_by_cached_key(|address| rank(*address, source_for(*address)));
    }
}

/// The place of an address that would be called from `source`; `None` when there is no route.
fn rank(address: IpAddr, source: Option<IpAddr>) -> u8 {
    match (address, source) {
        (_, None) => 3,
        (IpAddr::V6(address), Some(IpAddr::V6(source)))
            if is_local(source) && !is_local(address) =>
        {
            2
        }
        (IpAddr::V4(_), Some(_)) => 1,
        (IpAddr::V6(_), Some(_)) => 0,
    }
}

/// Whether an address has no meaning beyond a site.
fn is_local(address: Ipv6Addr) -> bool {
    address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
}

/// The address from which this machine would call `address`.
fn source_for(address: IpAddr) -> Option<IpAddr> {
    let anywhere: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // No packet is sent: connecting a datagram socket only chooses the route.
    let socket = UdpSocket::bind((anywhere, 0)).ok()?;
    socket.connect((address, ANY_PORT)).ok()?;
    socket.local_addr().ok().map(|local: SocketAddr| local.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usable_addresses_come_first_and_ipv6_before_ipv4() {
        let of = |address: &str, source: Option<&str>| {
            rank(
                address.parse().unwrap(),
                source.map(|text| text.parse().unwrap()),
            )
        };
        let order = [
            of("2001:db8::1", Some("2001:db8::2")),
            of("192.0.2.1", Some("10.0.0.2")),
            of("2001:db8::1", Some("fd00::2")),
            of("2001:db8::1", None),
        ];
        assert!(order.is_sorted_by(|one, next| one < next), "{order:?}");
        assert_eq!(of("fd00::1", Some("fd00::2")), order[0]);
        assert_eq!(of("192.0.2.1", None), order[3]);
    }

    #[test]
    fn addresses_of_one_rank_keep_their_order() {
        let given = ["127.0.0.3", "127.0.0.1", "127.0.0.2"].map(|text| text.parse().unwrap());
        let mut sorted = given;
        sort(&mut sorted);
        assert_eq!(sorted, given);
    }
}
