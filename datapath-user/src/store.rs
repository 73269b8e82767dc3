//! What survives the daemon: desired state, in a redb file, fsynced with every change.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::kernel::sysctl::{Change, ReservedPorts};
use crate::model::{Guard, Model};
use crate::shared::differences;

/// The layout of the file. Raised when an older daemon could not read it.
const VERSION: u32 = 2;

/// Everything: path-like key → JSON.
const TABLE: TableDefinition<&str, &[u8]> = TableDefinition::new("datapath");

/// Bytes of the file that are kept in memory. It is read once, at start.
const CACHE: usize = 1 << 20;

/// What is kept besides the model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// Sysctls we changed, with what they were.
    pub sysctls: Vec<Change>,
    /// What is in `ip_local_reserved_ports`, ours and the user's.
    pub reserved_ports: Option<ReservedPorts>,
}

/// What is stored.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Id of the boot in which it was written last.
    pub boot_id: String,
    /// Desired state.
    pub model: Model,
    /// The rest.
    pub remembered: Remembered,
}

/// The file, open.
pub struct Store {
    database: Database,
    path: PathBuf,
    /// What is in it; nothing where it is new, or in the layout of an earlier version.
    written: Option<State>,
}

impl Store {
    /// Where the file is in the state directory.
    #[must_use]
    pub fn path(state_dir: &Path) -> PathBuf {
        state_dir.join("state.redb")
    }

    /// Opens the file and reads it; makes an empty one where there is none.
    ///
    /// # Errors
    /// When there is a file that is not one of ours, is damaged, or was written by a newer version. It is left as it is.
    pub fn open(state_dir: &Path) -> Result<(Self, Option<State>)> {
        let path = Self::path(state_dir);
        let found = match fs::metadata(&path) {
            Ok(metadata) if metadata.len() == 0 => bail!("{}", damaged(&path, "it is empty")),
            Ok(_) => true,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => bail!("the state file {} cannot be read: {error}", path.display()),
        };
        // redb asserts in places where a damaged file misleads it: that too is a damaged file, not a crash.
        let opened = std::panic::catch_unwind(|| open_and_read(&path, found));
        let (database, content) = match opened {
            Ok(result) => result?,
            Err(_) => bail!("{}", damaged(&path, "its pages contradict each other")),
        };
        if !found {
            return Ok((Self { database, path, written: None }, None));
        }
        let (version, state) = decode(&content).with_context(|| damaged(&path, "its content is wrong"))?;
        let written = (version == VERSION).then(|| state.clone());
        Ok((Self { database, path, written }, Some(state)))
    }

    /// Writes what differs from what was written last, as one change, and waits until it is on disk.
    ///
    /// # Errors
    /// When it cannot be written; the file then has the state before.
    pub fn save(&mut self, state: &State) -> Result<()> {
        let entries = encode(self.written.as_ref(), state)?;
        if entries.is_empty() {
            return Ok(());
        }
        let write = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            {
                let mut table = transaction.open_table(TABLE)?;
                if self.written.is_none() {
                    table.retain(|_, _| false)?;
                }
                for (key, value) in &entries {
                    match value {
                        Some(value) => table.insert(key.as_str(), value.as_slice())?,
                        None => table.remove(key.as_str())?,
                    };
                }
            }
            transaction.commit()?;
            Ok(())
        };
        write().map_err(|error| {
            anyhow!(
                "the state cannot be written to {} ({error}); make room or correct its permissions",
                self.path.display()
            )
        })?;
        self.written = Some(state.clone());
        Ok(())
    }
}

fn damaged(path: &Path, why: &str) -> String {
    format!(
        "the state file {} cannot be used ({why}); restore it from a backup, or move it away and run \
         `datapath daemon --cleanup` to begin with nothing",
        path.display()
    )
}

fn open_and_read(path: &Path, found: bool) -> Result<(Database, BTreeMap<String, Vec<u8>>)> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    let opened = if found { builder.open(path) } else { builder.create(path) };
    let database = opened.map_err(|error| anyhow!(damaged(path, &error.to_string())))?;
    let read = || -> Result<BTreeMap<String, Vec<u8>>, redb::Error> {
        let mut content = BTreeMap::new();
        for entry in database.begin_read()?.open_table(TABLE)?.iter()? {
            let (key, value) = entry?;
            content.insert(key.value().to_owned(), value.value().to_owned());
        }
        Ok(content)
    };
    match read() {
        Ok(content) => Ok((database, content)),
        Err(redb::Error::TableDoesNotExist(_)) if !found => Ok((database, BTreeMap::new())),
        Err(error) => bail!("{}", damaged(path, &error.to_string())),
    }
}

/// A key, with its value or with nothing where it goes.
type Entry = (String, Option<Vec<u8>>);

/// The entries that lead from one state to another, or from nothing.
fn encode(from: Option<&State>, to: &State) -> Result<Vec<Entry>> {
    fn entry<T: Serialize>(key: String, value: Option<&T>) -> Result<Entry> {
        Ok((key, value.map(serde_json::to_vec).transpose()?))
    }
    let mut entries = Vec::new();
    if from.is_none() {
        entries.push(entry("version".to_owned(), Some(&VERSION))?);
    }
    if from.is_none_or(|from| from.boot_id != to.boot_id) {
        entries.push(entry("boot_id".to_owned(), Some(&to.boot_id))?);
    }
    if from.is_none_or(|from| from.model.counters != to.model.counters) {
        entries.push(entry("counters".to_owned(), Some(&to.model.counters))?);
    }
    if from.is_none_or(|from| from.remembered != to.remembered) {
        entries.push(entry("remembered".to_owned(), Some(&to.remembered))?);
    }
    if from.is_none_or(|from| from.model.guard != to.model.guard) {
        entries.push(entry("guard".to_owned(), Some(&to.model.guard))?);
    }
    let nothing = Model::default();
    let known = from.map_or(&nothing, |from| &from.model);
    for (name, _, network) in differences(&known.networks, &to.model.networks) {
        entries.push(entry(format!("network/{name}"), network)?);
    }
    for (index, _, endpoint) in differences(&known.endpoints, &to.model.endpoints) {
        entries.push(entry(format!("endpoint/{index}"), endpoint.map(AsRef::as_ref))?);
    }
    for (index, _, publication) in known.publications.differences(&to.model.publications) {
        entries.push(entry(format!("publication/{index}"), publication.map(AsRef::as_ref))?);
    }
    Ok(entries)
}

/// The state, and the version it was in.
fn decode(content: &BTreeMap<String, Vec<u8>>) -> Result<(u32, State)> {
    let version: u32 = field(content, "version")?;
    if version > VERSION {
        bail!("it has version {version}, and this daemon knows {VERSION}; start the newer daemon again");
    }
    // Older daemons had no guard.
    let guard = if content.contains_key("guard") { field(content, "guard")? } else { Guard::default() };
    let mut model = Model { counters: field(content, "counters")?, guard, ..Model::default() };
    for (key, value) in content {
        let wrong = || format!("the entry {key} is damaged");
        if key.starts_with("network/") {
            let mut network: crate::model::Network = serde_json::from_slice(value).with_context(wrong)?;
            // Until then one mode was that of both IP versions.
            if version < 2 {
                network.gateway_mode_ipv6 = network.gateway_mode;
            }
            model.networks.insert(network.name.clone(), network);
        } else if key.starts_with("endpoint/") {
            let endpoint: crate::model::Endpoint = serde_json::from_slice(value).with_context(wrong)?;
            model.endpoints.insert(endpoint.index, endpoint.into());
        } else if key.starts_with("publication/") {
            let publication: crate::model::Publication = serde_json::from_slice(value).with_context(wrong)?;
            model.publications.insert(publication.index, publication.into());
        }
    }
    Ok((version, State { boot_id: field(content, "boot_id")?, model, remembered: field(content, "remembered")? }))
}

fn field<T: DeserializeOwned>(content: &BTreeMap<String, Vec<u8>>, key: &str) -> Result<T> {
    let value = content.get(key).with_context(|| format!("the entry {key} is missing"))?;
    serde_json::from_slice(value).with_context(|| format!("the entry {key} is damaged"))
}

/// The id of this boot of the machine.
///
/// # Errors
/// When /proc is not there.
pub fn boot_id() -> Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("the id of this boot cannot be read")?;
    Ok(id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AttachRequest, Host, NetworkRequest, random_ula};

    fn state() -> State {
        let mut model = Model::default();
        let request = NetworkRequest { name: "app".to_owned(), ..NetworkRequest::default() };
        model.create_network(&request, random_ula([1; 7]), &Host::default()).expect("a network");
        State { boot_id: "one".to_owned(), model, remembered: Remembered::default() }
    }

    fn content(state: &State) -> BTreeMap<String, Vec<u8>> {
        let entries = encode(None, state).expect("encoded").into_iter();
        entries.map(|(key, value)| (key, value.expect("nothing goes"))).collect()
    }

    #[test]
    fn reads_what_it_wrote() {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut store, found) = Store::open(directory.path()).expect("opened");
        assert!(found.is_none());
        store.save(&state()).expect("saved");
        drop(store);
        let (mut store, found) = Store::open(directory.path()).expect("opened again");
        assert_eq!(found.expect("state").model, state().model);
        store.save(&State { boot_id: "two".to_owned(), ..State::default() }).expect("saved");
        drop(store);
        let found = Store::open(directory.path()).expect("opened again").1.expect("state");
        assert_eq!((found.boot_id.as_str(), found.model.networks.len()), ("two", 0));
    }

    #[test]
    fn only_what_differs_is_written() {
        let before = state();
        let mut after = before.clone();
        let web = AttachRequest { netns: "web".to_owned(), network: "app".to_owned(), ..AttachRequest::default() };
        after.model.attach(&web, (4, 1), &[], String::new()).expect("an endpoint");
        let keys = |from: &State, to: &State| -> Vec<_> {
            let entries = encode(Some(from), to).expect("encoded").into_iter();
            entries.map(|(key, value)| (key, value.is_some())).collect()
        };
        let entry = |key: &str, stays: bool| (key.to_owned(), stays);
        let common = [entry("counters", true), entry("network/app", true)];
        assert_eq!(keys(&before, &after), [&common[..], &[entry("endpoint/1", true)]].concat());
        assert_eq!(keys(&after, &before), [&common[..], &[entry("endpoint/1", false)]].concat());
        assert_eq!(keys(&after, &after), []);
    }

    #[test]
    fn a_damaged_file_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut store, _) = Store::open(directory.path()).expect("opened");
        store.save(&state()).expect("saved");
        drop(store);
        let path = Store::path(directory.path());
        let whole = fs::read(&path).expect("read");
        let mut overwritten = whole.clone();
        overwritten.iter_mut().for_each(|byte| *byte ^= 0x5a);
        for content in [&b""[..], b"not a database", &whole[..whole.len() / 3], &overwritten] {
            fs::write(&path, content).expect("written");
            let Err(refusal) = Store::open(directory.path()) else { panic!("{} bytes were accepted", content.len()) };
            assert!(format!("{refusal:#}").contains("--cleanup"), "{refusal:#}");
            assert_eq!(fs::read(&path).expect("read"), content);
        }
        fs::write(&path, whole).expect("written");
        Store::open(directory.path()).expect("the whole file again");
    }

    #[test]
    fn the_first_version_had_one_gateway_mode() {
        let mut state = state();
        state.model.networks.values_mut().for_each(|network| network.gateway_mode = crate::model::GatewayMode::Routed);
        let mut content = content(&state);
        content.insert("version".to_owned(), b"1".to_vec());
        let entry = content.get_mut("network/app").expect("the network");
        let mut network: serde_json::Value = serde_json::from_slice(entry).expect("JSON");
        network.as_object_mut().expect("an object").remove("gateway_mode_ipv6").expect("new in version 2");
        *entry = serde_json::to_vec(&network).expect("encoded");
        let network = decode(&content).expect("read").1.model.networks["app"].clone();
        assert_eq!(network.gateway_mode_ipv6, crate::model::GatewayMode::Routed);
    }

    #[test]
    fn a_state_from_before_the_guard_has_no_rules() {
        let mut state = state();
        state.model.guard.deny(&["192.0.2.0/24".parse().expect("a prefix")]).expect("denied");
        let mut content = content(&state);
        assert_eq!(decode(&content).expect("read").1.model, state.model);
        content.remove("guard").expect("stored now");
        assert_eq!(decode(&content).expect("read").1.model.guard, Guard::default());
    }

    #[test]
    fn networks_from_before_an_option_are_without_it() {
        let mut content = content(&state());
        let entry = content.get_mut("network/app").expect("the network");
        let mut network: serde_json::Value = serde_json::from_slice(entry).expect("JSON");
        for option in ["mss_clamp", "big_tcp"] {
            network.as_object_mut().expect("an object").remove(option).expect("stored now");
        }
        *entry = serde_json::to_vec(&network).expect("encoded");
        let model = decode(&content).expect("read").1.model;
        assert_eq!((model.networks["app"].mss_clamp, model.networks["app"].big_tcp), (false, false));
    }

    #[test]
    fn a_newer_version_is_refused() {
        let mut content = content(&state());
        content.insert("version".to_owned(), b"3".to_vec());
        assert!(decode(&content).expect_err("refused").to_string().contains("newer daemon"));
    }
}
