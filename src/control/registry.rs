//! Answers about the registry.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::when;
use crate::engine::mark::Mark;
use crate::engine::{Grade, Kind, Name, Wall};

/// How much the registry knows, and how it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryStats {
    /// Addresses.
    pub addresses: u64,
    /// Different names, those of CNAME chains included.
    pub names: u64,
    /// Clients of whom something is known.
    pub askers: u64,
    /// Bytes in memory, by its own estimate.
    pub bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Addresses it may have; nothing if no daemon runs that has a limit.
    pub limit: Option<u64>,
    /// How the disk is.
    pub disk: RegistryDisk,
}

/// Whether the registry reaches the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryDisk {
    /// It does, or is not meant to.
    pub ok: bool,
    /// What there is to say, and to do.
    pub message: String,
    /// Since when.
    #[serde(with = "when::text")]
    pub since: Wall,
}

/// What the registry knows about an address, or about all addresses of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookedUp {
    /// The addresses.
    pub addresses: Vec<RegistryAddress>,
    /// Addresses beyond those.
    pub more: u64,
    /// The container that grades are for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

/// One address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryAddress {
    /// The address.
    pub address: IpAddr,
    /// How good this is for the container asked about, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grade: Option<Grade>,
    /// What is suspicious about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
    /// When a flow to it was let through, to the hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<String>,
    /// Its names, the one seen last first.
    pub names: Vec<RegistryName>,
    /// Who asked for names that are no longer kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub askers: Vec<RegistryAsker>,
}

/// One name of an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryName {
    /// The name.
    pub name: Name,
    /// How it is known.
    pub kind: Kind,
    /// When it first resolved to the address.
    #[serde(with = "when::text")]
    pub first: Wall,
    /// When it last did, to some minutes.
    #[serde(with = "when::text")]
    pub last: Wall,
    /// CNAME targets between the two.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<Name>,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub askers: Vec<RegistryAsker>,
}

/// Someone who asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryAsker {
    /// Who.
    pub address: IpAddr,
    /// The container that has that address now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// When it last did.
    #[serde(with = "when::text")]
    pub last: Wall,
}

/// What was forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// The addresses.
    pub addresses: Vec<IpAddr>,
}

/// What became of what was to be imported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Addresses that were not known.
    pub new: u64,
    /// Addresses that were, and have what was imported beside what was known.
    pub known: u64,
    /// Entries that make no sense, names with addresses that no public name has, and addresses there was no room for.
    pub skipped: u64,
}

impl Imported {
    /// Adds what became of another part.
    pub fn add(&mut self, other: Imported) {
        self.new += other.new;
        self.known += other.known;
        self.skipped += other.skipped;
    }
}
