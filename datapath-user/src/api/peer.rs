//! Who is at the other end of the socket.

use std::ffi::CString;

use anyhow::{Context, Result};
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use tokio::net::UnixListener;

use super::answer::Denial;

/// The credentials of a client, as the kernel has them.
#[derive(Clone, Copy, Debug)]
pub struct Peer(Option<(u32, u32)>);

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self(stream.io().peer_cred().ok().map(|credentials| (credentials.uid(), credentials.gid())))
    }
}

/// Looks up the group whose members may use the socket.
pub fn group(name: &str) -> Result<Gid> {
    let found = Group::from_name(name).with_context(|| format!("the group {name} cannot be looked up"))?;
    found
        .map(|group| group.gid)
        .with_context(|| format!("there is no group {name}; correct socket_group, or `groupadd {name}`"))
}

/// Lets root and members of the group through.
pub async fn check(
    State(group): State<Option<Gid>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let allowed = peer.0.is_some_and(|(uid, gid)| uid == 0 || group.is_some_and(|group| is_member(uid, gid, group)));
    if allowed {
        return next.run(request).await;
    }
    Denial::new(StatusCode::FORBIDDEN, "only root and members of socket_group may do this; run it as root")
        .into_response()
}

fn is_member(uid: u32, gid: u32, group: Gid) -> bool {
    let gid = Gid::from_raw(gid);
    if gid == group {
        return true;
    }
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let name = user.and_then(|user| CString::new(user.name).ok());
    name.and_then(|name| getgrouplist(&name, gid).ok()).is_some_and(|groups| groups.contains(&group))
}
