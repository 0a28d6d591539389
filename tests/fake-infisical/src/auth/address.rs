//! Trusted addresses.

use std::net::IpAddr;

/// Whether the address is in one of these networks, written as `10.0.0.0/8` or as a single address.
pub fn is_trusted(address: IpAddr, networks: &[String]) -> bool {
    networks.iter().any(|network| contains(network, address))
}

fn contains(network: &str, address: IpAddr) -> bool {
    let (base, length) = match network.split_once('/') {
        Some((base, length)) => (base, length.parse().ok()),
        None => (network, None),
    };
    let length: Option<u32> = length;
    match (base.trim().parse(), address) {
        (Ok(IpAddr::V4(base)), IpAddr::V4(address)) => {
            let shift = 32 - length.unwrap_or(32).min(32);
            let difference = u32::from(base) ^ u32::from(address);
            difference.checked_shr(shift).unwrap_or(0) == 0
        }
        (Ok(IpAddr::V6(base)), IpAddr::V6(address)) => {
            let shift = 128 - length.unwrap_or(128).min(128);
            let difference = u128::from(base) ^ u128::from(address);
            difference.checked_shr(shift).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_rule_matches_networks_and_single_addresses() {
        let home: IpAddr = "127.0.0.1".parse().unwrap();
        let trusted = |network: &str| is_trusted(home, &[network.to_owned()]);
        assert!(trusted("0.0.0.0/0") && trusted("127.0.0.0/8") && trusted("127.0.0.1"));
        assert!(!trusted("::/0") && !trusted("10.0.0.0/8") && !trusted("nonsense"));
        assert!(is_trusted("::1".parse().unwrap(), &["::/0".to_owned()]));
    }
}
