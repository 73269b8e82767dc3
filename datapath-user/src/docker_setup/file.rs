//! A configuration file on disk: found behind links, kept beside itself, replaced in one step.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

/// Ends the name of the file that holds what was there before. Empty: there was none.
const BACKUP: &str = ".before-datapath";

/// The file.
pub struct ConfigurationFile {
    /// Where it really is, behind symbolic links.
    pub path: PathBuf,
    /// What is in it; none: there is no such file.
    pub text: Option<String>,
    metadata: Option<Metadata>,
}

impl ConfigurationFile {
    /// Finds and reads it.
    ///
    /// # Errors
    /// When it is not a file of text, or a link to nowhere.
    pub fn open(named: &Path) -> Result<Self> {
        let absolute = std::path::absolute(named)?;
        let path = match fs::canonicalize(&absolute) {
            Ok(path) => path,
            Err(error) if error.kind() == ErrorKind::NotFound => return Self::missing(absolute),
            Err(error) => bail!("{} cannot be found: {error}", absolute.display()),
        };
        let metadata = fs::metadata(&path).with_context(|| unreadable(&path))?;
        if !metadata.is_file() {
            bail!("{} is not a file; make it one, or name another", path.display());
        }
        let text = fs::read(&path).with_context(|| unreadable(&path))?;
        let Ok(text) = String::from_utf8(text) else {
            bail!("{} is not UTF-8; correct it, whose it is cannot read it either", path.display());
        };
        Ok(Self { path, text: Some(text), metadata: Some(metadata) })
    }

    fn missing(path: PathBuf) -> Result<Self> {
        if let Ok(target) = fs::read_link(&path) {
            bail!(
                "{} is a symbolic link to {}, which does not exist; make that file, or remove the link",
                path.display(),
                target.display()
            );
        }
        Ok(Self { path, text: None, metadata: None })
    }

    /// When it was changed last: its content, or which file has its name.
    #[must_use]
    pub fn changed(&self) -> Option<SystemTime> {
        let metadata = self.metadata.as_ref()?;
        let nanoseconds = u32::try_from(metadata.ctime_nsec()).ok()?;
        Some(SystemTime::UNIX_EPOCH + Duration::new(u64::try_from(metadata.ctime()).ok()?, nanoseconds))
    }

    /// Where what was before is kept.
    #[must_use]
    pub fn backup_path(&self) -> PathBuf {
        let mut name = OsString::from(self.path.as_os_str());
        name.push(BACKUP);
        PathBuf::from(name)
    }

    /// What was there before `enable`: `Some(None)` means that there was no file, `None` that nothing is kept.
    ///
    /// # Errors
    /// When the backup cannot be read.
    #[expect(clippy::option_option, reason = "both questions have the answer no, and mean different things by it")]
    pub fn backup(&self) -> Result<Option<Option<String>>> {
        let path = self.backup_path();
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some((!text.is_empty()).then_some(text))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| unreadable(&path)),
        }
    }

    /// Keeps what was there before.
    ///
    /// # Errors
    /// When it cannot be written. Then nothing has changed.
    pub fn keep(&self, before: Option<&str>) -> Result<()> {
        self.make_folder()?;
        self.write(&self.backup_path(), before.unwrap_or_default())
    }

    /// Forgets what was there before.
    ///
    /// # Errors
    /// When the backup cannot be removed.
    pub fn forget(&self) -> Result<()> {
        let path = self.backup_path();
        fs::remove_file(&path).with_context(|| format!("{} cannot be removed; remove it by hand", path.display()))
    }

    /// Puts this text, or no file, in its place in one step; mode and owner stay.
    ///
    /// # Errors
    /// When it cannot be written. Then nothing has changed.
    pub fn replace(&self, text: Option<&str>) -> Result<()> {
        match text {
            Some(text) => self.write(&self.path, text),
            None => fs::remove_file(&self.path).with_context(|| format!("{} cannot be removed", self.path.display())),
        }
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    fn make_folder(&self) -> Result<()> {
        match fs::create_dir(self.folder()) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                let folder = self.folder().display();
                bail!("{folder} cannot be made ({error}); make it, or name another file")
            }
            _ => Ok(()),
        }
    }

    fn write(&self, path: &Path, text: &str) -> Result<()> {
        let written = || -> std::io::Result<()> {
            let mut new = tempfile::Builder::new().prefix(".datapath-").tempfile_in(self.folder())?;
            new.write_all(text.as_bytes())?;
            let mode = self.metadata.as_ref().map_or(0o644, |metadata| metadata.mode() & 0o7777);
            if let Some(metadata) = &self.metadata {
                fchown(new.as_file(), Some(metadata.uid()), Some(metadata.gid()))?;
            }
            new.as_file().set_permissions(Permissions::from_mode(mode))?;
            new.as_file().sync_all()?;
            new.persist(path)?;
            File::open(self.folder())?.sync_all()
        };
        written().with_context(|| format!("{} cannot be written; nothing was changed", path.display()))
    }
}

fn unreadable(path: &Path) -> String {
    format!("{} cannot be read; run this as root", path.display())
}
