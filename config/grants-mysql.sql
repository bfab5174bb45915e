-- failoverd's accounts and tables on MySQL 8.0.26 or later, 8.4. Run it once as an administrator, on the primary: it
-- replicates. Before that, replace three words, each written below between two @ signs:
--   PASSWORD              failoverd's own, in the file that `database.password_file` names
--   REPLICATION_PASSWORD  the replicas', in the file that `database.replication_password_file` names; 32 characters at
--                         most, which is what CHANGE REPLICATION SOURCE TO takes
--   REPLICATION_HOST      from where replicas connect, as MySQL writes it: 192.0.2.%
-- Tried with no MySQL server: none could be had. A model of one that knows each privilege runs by it (tests/contracts).
--
-- What each server's my.cnf needs besides, and does not get by replication:
--   plugin_load_add = 'semisync_source.so;semisync_replica.so'
--   super_read_only = ON, gtid_mode = ON, enforce_gtid_consistency = ON, sync_binlog = 1, sync_relay_log = 1,
--   innodb_flush_log_at_trx_commit = 1, relay_log_recovery = ON, replica_net_timeout = 4,
--   rpl_semi_sync_replica_enabled = ON, rpl_semi_sync_source_enabled = OFF

CREATE DATABASE IF NOT EXISTS failoverd;

-- One row, written twice a second by the lease's holder: it proves that the primary commits, and how far a replica is.
CREATE TABLE IF NOT EXISTS failoverd.heartbeat (
  id   TINYINT PRIMARY KEY,
  term BIGINT NOT NULL,
  beat BIGINT NOT NULL
) ENGINE=InnoDB;
INSERT IGNORE INTO failoverd.heartbeat VALUES (1, 0, 0);

-- One row a term: who became primary, after whom, from which position, why. A position names every server that ever
-- was a primary, 37 characters each and more.
CREATE TABLE IF NOT EXISTS failoverd.journal (
  term     BIGINT PRIMARY KEY,
  holder   VARCHAR(64)  NOT NULL,
  previous VARCHAR(64)  NULL,
  gtid     TEXT         NOT NULL,
  reason   VARCHAR(255) NOT NULL
) ENGINE=InnoDB;

-- Over the Unix socket caching_sha2_password needs no TLS.
CREATE USER IF NOT EXISTS 'failoverd'@'localhost' IDENTIFIED WITH caching_sha2_password BY '@PASSWORD@';
GRANT
  PROCESS,                 -- see all connections and transactions
  CONNECTION_ADMIN,        -- end them, write the term's first heartbeat behind read_only, connect at max_connections
  SYSTEM_USER,             -- end root's as well: a forgotten backup's lock stands in the way like any other
  SYSTEM_VARIABLES_ADMIN,  -- set super_read_only, read_only and semi-sync, for which nothing is narrower
  REPLICATION CLIENT,      -- SHOW REPLICA STATUS
  REPLICATION_SLAVE_ADMIN, -- START, STOP REPLICA, CHANGE REPLICATION SOURCE TO
  RELOAD                   -- RESET REPLICA
ON *.* TO 'failoverd'@'localhost';
GRANT SELECT, INSERT, UPDATE ON failoverd.heartbeat TO 'failoverd'@'localhost';
GRANT SELECT, INSERT ON failoverd.journal TO 'failoverd'@'localhost';

-- A replica asks its source for the key that its password is encrypted with, where there is no TLS.
CREATE USER IF NOT EXISTS 'failoverd_repl'@'@REPLICATION_HOST@'
  IDENTIFIED WITH caching_sha2_password BY '@REPLICATION_PASSWORD@';
GRANT REPLICATION SLAVE ON *.* TO 'failoverd_repl'@'@REPLICATION_HOST@';
