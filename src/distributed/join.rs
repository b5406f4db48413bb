//! How the processes of a group come together.

use super::alarm::Alarm;
use super::bounded::within;
use super::c10d::{Backend, Limits, Place, Store};
use super::rendezvous::{wrong, Rendezvous};
use crate::error::{in_words, DistributedError};
use crate::{Error, Result};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Counts the rounds of a store: each rank 0 begins one. A store that torchrun hosts outlives the ranks, and
/// the torchruns of several machines count restarts of their own.
const ROUNDS: &str = "rounds";
/// Keys of a round.
const WORLD_SIZE: &str = "world_size";
const ALL: &str = "all";
const JOINED: &str = "joined";

/// A group whose ranks have all come.
#[derive(Debug)]
pub(super) struct Joined {
    pub store: Arc<Store>,
    pub alarm: Alarm,
    pub gloo: Backend,
}

/// Meets the other ranks within a time limit, and connects to each of them.
pub(super) fn join(rendezvous: &Rendezvous, limit: Duration) -> Result<Joined> {
    // Longer than leaving a message takes.
    const GRACE: Duration = Duration::from_secs(4);
    let meeting = Meeting { place: rendezvous.clone(), limit, end: Instant::now() + limit };
    let late = meeting.failed(format!("not done within {limit:?}; see whether every rank runs"));
    within(limit + GRACE, move || meeting.join()).unwrap_or(Err(late))
}

struct Meeting {
    place: Rendezvous,
    limit: Duration,
    end: Instant,
}

/// One try of all ranks to meet.
struct Round {
    number: i64,
    /// Whether this process is the first with its rank.
    first: bool,
    store: Arc<Store>,
    alarm: Alarm,
}

impl Meeting {
    fn join(&self) -> Result<Joined> {
        let master = self.resolved()?;
        let root = self.open(self.place.hosts_store())?;
        let address = master.into_iter().find_map(local_address);
        loop {
            let round = self.enter(&root)?;
            let met = self.meet(&root, &round, address);
            // One process too many, which a complete group does not know: it ends alone.
            let stray = met.is_err() && round.store.has(ALL).unwrap_or(true);
            let gloo = met.and_then(|()| self.connect(&round, address));
            let Round { store, alarm, .. } = round;
            match gloo {
                Ok(gloo) => return Ok(Joined { store, alarm, gloo }),
                Err(_) if self.is_over(&root, round.number) => {}
                Err(error) => {
                    let peer = matches!(error, Error::Distributed(DistributedError::Peer { .. }));
                    if !stray && !peer {
                        alarm.raise(&in_words(&error));
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Begins a round as rank 0, else enters the newest one that no process with this rank has entered.
    fn enter(&self, root: &Store) -> Result<Round> {
        let Rendezvous { rank, world_size, hosted, .. } = self.place;
        let answered = |answer: super::c10d::Result<i64>| answer.map_err(|why| self.failed(why));
        let (mut tried, begins) = (0, i64::from(rank == 0));
        let (number, first) = loop {
            let number = answered(root.add(ROUNDS, begins))?;
            if number > tried {
                let first = answered(root.add(&format!("{number}/{}", came(rank)), 1))? == 1;
                if first || !hosted {
                    break (number, first);
                }
                tried = number;
            }
            if !self.pause() {
                return Err(if tried == 0 { self.missing("0") } else { taken(rank) });
            }
        };
        let within =
            |root: &Store| root.within(&number.to_string()).map_err(|reason| self.failed(reason));
        let (store, listening) = (Arc::new(within(root)?), within(&self.open(false)?)?);
        let hosts = self.place.hosts_store();
        let alarm = Alarm::new(rank, world_size, hosts, store.clone(), listening);
        Ok(Round { number, first, store, alarm })
    }

    /// Whether rank 0 has begun a newer round: it was restarted.
    fn is_over(&self, root: &Store, round: i64) -> bool {
        let follows = self.place.hosted && self.place.rank != 0;
        follows && root.add(ROUNDS, 0).is_ok_and(|newest| newest > round)
    }

    /// Connects this rank to each of the others.
    fn connect(&self, round: &Round, address: Option<IpAddr>) -> Result<Backend> {
        let (store, alarm) = (&*round.store, &round.alarm);
        let Rendezvous { rank, world_size, .. } = self.place;
        let address = self.reachable(store, address).map(|address| address.to_string());
        let chosen = std::env::var_os("GLOO_SOCKET_IFNAME").is_some_and(|name| !name.is_empty());
        let address = address.as_deref().filter(|_| !chosen);
        let place = Place { rank, world_size };
        self.stored(alarm, Backend::gloo(store, place, self.limit, address))
    }

    /// Resolves the addresses of rank 0; on clusters a name may be known only after a while. IPv4 comes
    /// first, so that all ranks take the same where a machine has both.
    fn resolved(&self) -> Result<Vec<SocketAddr>> {
        loop {
            let found = (self.place.host.as_str(), self.place.port).to_socket_addrs();
            let reason = match found.map(Vec::from_iter) {
                Ok(mut addresses) if !addresses.is_empty() => {
                    addresses.sort_by_key(SocketAddr::is_ipv6);
                    return Ok(addresses);
                }
                Ok(_) => "no address".to_string(),
                Err(error) => error.to_string(),
            };
            if !self.pause() {
                let actual = format!("{} ({reason})", self.place.host);
                return Err(wrong("MASTER_ADDR", "a name or address that can be resolved", actual));
            }
        }
    }

    /// Connects to the store, which a connection that `hosts` opens first.
    fn open(&self, hosts: bool) -> Result<Store> {
        let place = &self.place;
        let connect = self.end.saturating_duration_since(Instant::now());
        let limits = Limits { connect, wait: self.limit };
        Store::open((&place.host, place.port), hosts, limits, "once-for-both").map_err(|reason| {
            if hosts && reason.contains("EADDRINUSE") {
                let expected = "a port that no other program uses on rank 0's machine";
                return wrong("MASTER_PORT", expected, format!("{}, in use", place.port));
            }
            self.failed(format!("no store there: {reason}"))
        })
    }

    fn agree_on_world_size(&self, root: &Store, round: &Round) -> Result<()> {
        let (store, alarm) = (&*round.store, &round.alarm);
        let own = self.place.world_size.to_string();
        if self.place.rank == 0 {
            self.stored(alarm, store.set_once(WORLD_SIZE, own.as_bytes()))?;
        }
        if !self.wait_for(root, round, WORLD_SIZE)? {
            return Err(self.missing("0"));
        }
        let expected = self.stored(alarm, store.get(WORLD_SIZE))?;
        let expected = String::from_utf8_lossy(&expected).into_owned();
        if expected == own {
            return Ok(());
        }
        let (what, rank) = (WORLD_SIZE.to_uppercase(), self.place.rank);
        Err(DistributedError::Differs { what, rank, expected, actual: own }.into())
    }

    /// Registers this rank, and waits until all have.
    fn meet(&self, root: &Store, round: &Round, address: Option<IpAddr>) -> Result<()> {
        self.agree_on_world_size(root, round)?;
        let (store, alarm) = (&*round.store, &round.alarm);
        let Rendezvous { rank, world_size, .. } = self.place;
        if !round.first {
            return Err(taken(rank));
        }
        if let Some(address) = address {
            self.stored(alarm, store.set(&address_of(rank), address.to_string().as_bytes()))?;
        }
        if self.stored(alarm, store.add(JOINED, 1))? == world_size as i64 {
            self.stored(alarm, store.set(ALL, b"1"))?;
        }
        if self.wait_for(root, round, ALL)? {
            return Ok(());
        }
        let missing = (0..world_size).filter(|rank| !store.has(&came(*rank)).unwrap_or(false));
        Err(self.missing(&listed(missing)))
    }

    /// Returns the address by which the other ranks reach this one: that of the network interface
    /// towards rank 0. On rank 0's machine that is the loopback interface, if its name says so; then
    /// that towards a rank of another machine.
    fn reachable(&self, store: &Store, address: Option<IpAddr>) -> Option<IpAddr> {
        let own = address.filter(|address| address.is_loopback());
        let Some(own) = own else { return address };
        let other = (0..self.place.world_size).find_map(|rank| {
            let key = address_of(rank);
            let text = store.has(&key).ok()?.then(|| store.get(&key).ok()).flatten()?;
            let other: IpAddr = String::from_utf8(text).ok()?.parse().ok()?;
            (!other.is_loopback()).then_some(other)
        });
        other.and_then(|other| local_address((other, 1).into())).or(Some(own))
    }

    /// Waits for a key until the time limit, or until another round; returns whether it has a value.
    fn wait_for(&self, root: &Store, round: &Round, key: &str) -> Result<bool> {
        let (store, alarm) = (&*round.store, &round.alarm);
        while !self.stored(alarm, store.has(key))? {
            if let Some(error) = alarm.raised() {
                return Err(error.into());
            }
            if self.is_over(root, round.number) || !self.pause() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits a moment before the next try; returns false, at once, after the time limit.
    fn pause(&self) -> bool {
        const PAUSE: Duration = Duration::from_millis(50);
        let left = self.end.saturating_duration_since(Instant::now());
        std::thread::sleep(left.min(PAUSE));
        !left.is_zero()
    }

    fn missing(&self, ranks: &str) -> Error {
        let limit = self.limit;
        self.failed(format!(
            "missing after {limit:?}: rank {ranks}; start it, or correct WORLD_SIZE"
        ))
    }

    /// Returns what the store answered. A store that is gone ended with rank 0, which may have left a
    /// message.
    fn stored<T>(&self, alarm: &Alarm, answer: super::c10d::Result<T>) -> Result<T> {
        answer.map_err(|reason| match alarm.raised_within(Alarm::ON_ITS_WAY) {
            Some(error) => error.into(),
            None => self.failed(reason),
        })
    }

    fn failed(&self, reason: String) -> Error {
        let Rendezvous { rank, world_size, host, port, .. } = &self.place;
        let operation = format!("joining the group at {host}:{port}");
        DistributedError::Failed { rank: *rank, world_size: *world_size, operation, reason }.into()
    }
}

fn taken(rank: usize) -> Error {
    let expected = "a number of its own for each process";
    wrong("RANK", expected, format!("{rank}, as another process"))
}

fn came(rank: usize) -> String {
    format!("rank/{rank}")
}

fn address_of(rank: usize) -> String {
    format!("address/{rank}")
}

/// The first few of many ranks.
fn listed(ranks: impl Iterator<Item = usize>) -> String {
    const LISTED: usize = 8;
    let mut ranks = ranks.map(|rank| rank.to_string());
    let first: Vec<String> = ranks.by_ref().take(LISTED).collect();
    match ranks.count() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// Address of the network interface by which this machine reaches another; nothing is sent.
fn local_address(other: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match other {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(other).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}
