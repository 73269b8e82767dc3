//! The unix socket.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, bail};
use axum::middleware::from_fn_with_state;
use nix::unistd::Gid;
use tokio::net::UnixListener;

use super::peer::{Peer, check, group};
use super::{App, router};

/// Makes the socket: for root, or also for the members of a group.
///
/// # Errors
/// When a daemon answers there already, or it cannot be made.
pub fn bind(path: &Path, group_name: Option<&str>) -> Result<(UnixListener, Option<Gid>)> {
    let group = group_name.map(group).transpose()?;
    make_room(path)?;
    let listener = UnixListener::bind(path).with_context(|| format!("the socket {} cannot be made", path.display()))?;
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    let permitted = fs::set_permissions(path, Permissions::from_mode(mode))
        .and_then(|()| chown(path, Some(0), group.map(Gid::as_raw).or(Some(0))));
    permitted.with_context(|| format!("the permissions of {} cannot be set", path.display()))?;
    Ok((listener, group))
}

/// Removes the socket of a daemon that is gone.
fn make_room(path: &Path) -> Result<()> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(directory);
        made.with_context(|| format!("the directory {} cannot be made", directory.display()))?;
    }
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("{} cannot be looked at", path.display())),
    };
    if !found.file_type().is_socket() {
        bail!("{} is there and is no socket; remove it or choose another --socket", path.display());
    }
    if UnixStream::connect(path).is_ok() {
        bail!("another process answers on {}; stop it or choose another --socket", path.display());
    }
    fs::remove_file(path).with_context(|| format!("the old socket {} cannot be removed", path.display()))
}

/// Answers requests until the future is dropped.
///
/// # Errors
/// When the socket fails.
pub async fn serve(listener: UnixListener, group: Option<Gid>, app: App) -> Result<()> {
    let router = router(app).layer(from_fn_with_state(group, check));
    let service = router.into_make_service_with_connect_info::<Peer>();
    axum::serve(listener, service).await.context("the socket failed")
}
