//! What becomes of a function's connections to a place, by the rules that decide about them.

use std::net::IpAddr;

use hearth_egress::rules::{SETTING, Verdict, is_name};
use hearth_frontend::{NetworkRequest, OperatorError};
use hearth_model::Functions;
use hearth_sandbox::Isolation;
use serde_json::Value;

use super::{ServerOperator, asked};
use crate::documents::{Network, NetworkAddress};

pub async fn answer(operator: &ServerOperator, request: NetworkRequest) -> Result<Value, OperatorError> {
    let NetworkRequest { account, region, function, to } = request;
    let arn = asked::function(&account, &region, &function)?;
    let refused = |status, code, message| OperatorError { status, code, message };
    if operator.control.known(&arn).is_err() {
        return Err(refused(404, "NotFound", format!("no function {}", arn.name)));
    }
    let (host, port) = place(&to).ok_or_else(|| {
        refused(400, "BadRequest", format!("{to:?} is not a host and a port such as db.internal:5432 or [fd00::7]:443"))
    })?;
    let mut document = Network { function_arn: arn.to_string(), destination: to.clone(), ..Network::default() };
    match (operator.isolation, operator.driver.leads_out()) {
        (Isolation::None, _) => {
            document.allowed = true;
            document.rule = Some("functions are not confined (isolation none)".to_owned());
        }
        (Isolation::Landlock, _) => {
            document.rule = Some("functions reach their own APIs alone (isolation landlock)".to_owned());
        }
        (Isolation::Process, false) => {
            document.rule = Some("functions have no way out on this host: see network in hearth doctor".to_owned());
        }
        (Isolation::Process, true) => {
            let explained = operator.egress.explain(&host, port).await;
            let explained = explained.map_err(|e| refused(404, "NotFound", format!("{host} has no address: {e}")))?;
            document.addresses = explained.addresses.iter().map(|(to, verdict)| address(to.ip(), verdict)).collect();
            document.allowed = document.addresses.iter().all(|address| address.allowed);
        }
    }
    serde_json::to_value(document).map_err(|e| refused(500, "Internal", e.to_string()))
}

fn address(address: IpAddr, verdict: &Verdict) -> NetworkAddress {
    let rule = match verdict {
        Verdict::Open => "a public address".to_owned(),
        Verdict::Allowed(entry, reason) => format!("{SETTING} names it as {entry} ({reason})"),
        Verdict::Blocked(reason) => format!("{reason}; functions reach it when {SETTING} names it"),
    };
    NetworkAddress { address: address.to_string(), allowed: verdict.allows(), rule }
}

/// `HOST:PORT`, where the host is a name or an address, one of IPv6 in brackets.
fn place(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let known = match bare {
        Some(bare) => bare.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.parse::<std::net::Ipv4Addr>().is_ok() || is_name(host),
    };
    known.then(|| (bare.unwrap_or(host).to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_host_and_a_port() {
        let good = [
            ("db.internal:5432", "db.internal", 5432),
            ("[fd00::7]:443", "fd00::7", 443),
            ("10.0.0.1:1", "10.0.0.1", 1),
        ];
        for (text, host, port) in good {
            assert_eq!(place(text), Some((host.to_owned(), port)));
        }
        for text in
            ["", "db", "db:", "db:0", "db:x", ":80", "fd00::7:443", "[x]:80", "a b:80", "https://x:80", "[10.0.0.1]:80"]
        {
            assert_eq!(place(text), None, "{text}");
        }
    }
}
