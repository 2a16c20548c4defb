//! Names for functions: their questions go to whom the host asks, and are answered in time.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

use crate::egress::unbound;

/// Longest wait for one resolver; then the next is asked.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Of those that the host has, so many are asked; with the wait above every question is answered within 6 s.
const RESOLVERS_MAX: usize = 3;
/// How long the host's list is taken as read.
const FRESH: Duration = Duration::from_secs(5);
/// Longest answer (RFC 6891 lets a client ask for as much).
const LONGEST: usize = 65_535;
const HEADER: usize = 12;
const PORT: u16 = 53;

/// Where the host says whom it asks.
const HOSTS: &str = "/etc/resolv.conf";

/// Whom functions' questions go to.
pub enum Resolvers {
    /// Whom the host asks, as it was read lately.
    Hosts(Mutex<Option<(Instant, Vec<SocketAddr>)>>),
    These(Vec<SocketAddr>),
}

impl Default for Resolvers {
    fn default() -> Self {
        Resolvers::Hosts(Mutex::default())
    }
}

impl From<Vec<SocketAddr>> for Resolvers {
    fn from(these: Vec<SocketAddr>) -> Self {
        Resolvers::These(these)
    }
}

impl Resolvers {
    /// In their order. As libraries have it, a host that names none asks itself.
    pub(crate) async fn list(&self) -> Vec<SocketAddr> {
        let read = match self {
            Resolvers::Hosts(read) => read,
            Resolvers::These(these) => return these.clone(),
        };
        let known = read.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, list)) = known
            && at.elapsed() < FRESH
        {
            return list;
        }
        let list = listed(&tokio::fs::read_to_string(HOSTS).await.unwrap_or_default());
        *read.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), list.clone()));
        list
    }

    /// The answer to a question; `None` for what is no question.
    pub(crate) async fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        let failure = failure(question)?;
        for resolver in self.list().await {
            if let Ok(Ok(answer)) = timeout(ANSWER_MAX, ask(resolver, question)).await {
                return Some(answer);
            }
        }
        Some(failure)
    }
}

async fn ask(resolver: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind(unbound(resolver)).await?;
    // From nobody else is an answer taken.
    socket.connect(resolver).await?;
    socket.send(question).await?;
    let mut answer = vec![0; LONGEST];
    loop {
        let length = socket.recv(&mut answer).await?;
        if length >= HEADER && answer[..2] == question[..2] && answer[2] & 0x80 != 0 {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

fn listed(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then_some(())?;
        // A zone, as of link-local addresses, is not followed.
        words.next()?.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, PORT))
    };
    let mut list: Vec<SocketAddr> = text.lines().filter_map(address).take(RESOLVERS_MAX).collect();
    if list.is_empty() {
        list.push((Ipv4Addr::LOCALHOST, PORT).into());
    }
    list
}

/// "The server failed" (RFC 1035), as the answer to this question.
pub(crate) fn failure(question: &[u8]) -> Option<Vec<u8>> {
    const ANSWER: u8 = 0x80;
    const RECURSION: u8 = 0x80;
    const FAILED: u8 = 2;
    let header = question.get(..HEADER)?;
    let is_question = header[2] & ANSWER == 0 && header[4..6] == [0, 1];
    let end = HEADER + question_length(&question[HEADER..]).filter(|_| is_question)?;
    let mut answer = question[..end].to_owned();
    answer[2] |= ANSWER;
    answer[3] = RECURSION | FAILED;
    // Neither answers nor what came beside the question.
    answer[6..HEADER].fill(0);
    Some(answer)
}

/// Of one question: labels, type, class.
fn question_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *bytes.get(at)? {
            0 => break,
            length @ 1..=63 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
    let end = at + 5;
    (end <= bytes.len()).then_some(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `a.example`, type A, with an option behind it.
    const QUESTION: &[u8] =
        b"\x12\x34\x01\x20\x00\x01\x00\x00\x00\x00\x00\x01\x01a\x07example\x00\x00\x01\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";

    #[tokio::test]
    async fn a_question_goes_to_the_first_that_answers() {
        let live = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = live.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, from) = live.recv_from(&mut buffer).await.unwrap();
            // Not an answer to this question, then one.
            live.send_to(b"\xff\xff\x80\x00\x00\x01\x00\x00\x00\x00\x00\x00", from).await.unwrap();
            buffer[2] |= 0x80;
            live.send_to(&buffer[..length], from).await.unwrap();
        });
        let answer = ask(address, QUESTION).await.unwrap();
        assert_eq!((answer.len(), answer[2] & 0x80), (QUESTION.len(), 0x80));
    }

    #[tokio::test]
    async fn without_anybody_to_ask_a_question_fails() {
        let resolvers = Resolvers::from(vec!["127.0.0.1:1".parse().unwrap()]);
        let answer = resolvers.answer(QUESTION).await.unwrap();
        assert_eq!(answer[..2], QUESTION[..2]);
        assert_eq!(answer[3] & 0x0f, 2);
        assert_eq!(answer.len(), 12 + 11 + 4);
        assert_eq!(resolvers.answer(b"no question").await, None);
    }

    #[test]
    fn resolvers_are_those_of_the_host() {
        let text =
            "# x\nnameserver 10.0.0.53\nsearch a b\nnameserver fd00::53\nnameserver fe80::1%eth0\nnameserver x\n";
        let list: Vec<String> = listed(text).iter().map(ToString::to_string).collect();
        assert_eq!(list, ["10.0.0.53:53", "[fd00::53]:53"]);
        assert_eq!(listed("").len(), 1);
    }

    proptest! {
        #[test]
        fn a_failure_is_a_part_of_its_question(question in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(answer) = failure(&question) {
                prop_assert!(answer.len() <= question.len() && answer[12..] == question[12..answer.len()]);
            }
        }
    }
}
