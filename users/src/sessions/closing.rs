//! Ending sessions and removing devices.

use hearth_core::UserNid;
use hearth_store::{access_token, account, device, pusher, refresh_token, to_device, write::Write};
use ruma::DeviceId;
use sqlx::PgConnection;

use super::{Session, SessionError, Sessions};
use crate::secret::TokenHash;

impl Sessions {
    /// Ends a session and removes its device.
    pub async fn close(&self, session: &Session) -> Result<(), SessionError> {
        if let Some(device_id) = &session.device_id {
            self.remove_devices(session.user, &[device_id.to_string()])
                .await
        } else {
            let hash = [session.hash.as_bytes().to_vec()];
            let mut tx = self.0.pool.begin().await?;
            access_token::delete(&mut tx, &hash).await?;
            pusher::delete_without_device(&mut tx, session.user).await?;
            tx.commit().await?;
            self.0.cache.forget(&hash);
            Ok(())
        }
    }

    /// Removes devices with their tokens and tells of it.
    pub(crate) async fn remove_devices(
        &self,
        user: UserNid,
        device_ids: &[String],
    ) -> Result<(), SessionError> {
        hearth_store::retry("remove devices", || async {
            let mut tx = self.0.pool.begin().await?;
            account::lock(&mut tx, user).await?;
            let removed = device::delete(&mut tx, user, device_ids).await?;
            let revoked = Self::delete_of_devices(&mut tx, user, &removed).await?;
            self.finish_removal(tx, user, &removed, &revoked).await
        })
        .await
    }

    /// Removes all devices and tokens of a user, except those of `except`.
    pub async fn close_all(
        &self,
        user: UserNid,
        except: Option<&Session>,
    ) -> Result<(), SessionError> {
        hearth_store::retry("close all sessions", || async {
            let mut tx = self.0.pool.begin().await?;
            account::lock(&mut tx, user).await?;
            let (removed, revoked) = Self::delete_all(&mut tx, user, except).await?;
            self.finish_removal(tx, user, &removed, &revoked).await
        })
        .await
    }

    /// Deletes the devices and tokens of a user within a transaction; the caller finishes with
    /// [`Sessions::finish_removal`].
    pub(crate) async fn delete_all(
        conn: &mut PgConnection,
        user: UserNid,
        except: Option<&Session>,
    ) -> sqlx::Result<(Vec<String>, Vec<Vec<u8>>)> {
        let device = except.and_then(|session| session.device_id.as_deref());
        let token = except.map(|session| session.hash);
        // The pushers of a device go with it.
        let removed = device::delete_others(conn, user, device.map(DeviceId::as_str)).await?;
        if except.is_none_or(|session| session.device_id.is_some()) {
            pusher::delete_without_device(conn, user).await?;
        }
        let mut revoked = Self::delete_of_devices(conn, user, &removed).await?;
        let kept = token.as_ref().map(TokenHash::as_bytes);
        revoked.extend(access_token::delete_without_device(conn, user, kept).await?);
        Ok((removed, revoked))
    }

    /// Deletes what belongs to removed devices, and returns the hashes of their access tokens.
    async fn delete_of_devices(
        conn: &mut PgConnection,
        user: UserNid,
        removed: &[String],
    ) -> sqlx::Result<Vec<Vec<u8>>> {
        let ids: Vec<&str> = removed.iter().map(String::as_str).collect();
        to_device::delete_of_devices(conn, user, &ids).await?;
        refresh_token::delete_of_devices(conn, user, removed).await?;
        access_token::delete_of_devices(conn, user, removed).await
    }

    /// Commits the removal of devices and forgets their sessions.
    pub(crate) async fn finish_removal(
        &self,
        tx: sqlx::Transaction<'static, sqlx::Postgres>,
        user: UserNid,
        removed: &[String],
        revoked: &[Vec<u8>],
    ) -> Result<(), SessionError> {
        if removed.is_empty() {
            tx.commit().await?;
        } else {
            let write = Write {
                device_lists: vec![user],
                ..Write::default()
            };
            self.0.journal.commit(tx, write).await?;
        }
        self.0.cache.forget(revoked);
        Ok(())
    }

    /// Makes the next request of each of the user's sessions look at the account again.
    pub(crate) async fn reconsider(&self, user: UserNid) -> sqlx::Result<()> {
        let mut conn = self.0.pool.acquire().await?;
        let hashes = access_token::list(&mut conn, user).await?;
        self.0.cache.forget(&hashes);
        Ok(())
    }
}
