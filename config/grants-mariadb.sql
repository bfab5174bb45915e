-- failoverd's accounts and tables on MariaDB 10.11. Tried with 10.11.19 in the lab. Run it once as an administrator, on the primary: it replicates.
-- Before that, replace three words, each written below between two @ signs:
--   PASSWORD              failoverd's own, in the file that `database.password_file` names
--   REPLICATION_PASSWORD  the replicas', in the file that `database.replication_password_file` names
--   REPLICATION_HOST      from where replicas connect, as MariaDB writes it: 192.0.2.%

CREATE DATABASE IF NOT EXISTS failoverd;

-- One row, written twice a second by the lease's holder: it proves that the primary commits, and how far a replica is.
CREATE TABLE IF NOT EXISTS failoverd.heartbeat (
  id   TINYINT PRIMARY KEY,
  term BIGINT NOT NULL,
  beat BIGINT NOT NULL
) ENGINE=InnoDB;
INSERT IGNORE INTO failoverd.heartbeat VALUES (1, 0, 0);

-- One row a term: who became primary, after whom, from which position, why.
CREATE TABLE IF NOT EXISTS failoverd.journal (
  term     BIGINT PRIMARY KEY,
  holder   VARCHAR(64)  NOT NULL,
  previous VARCHAR(64)  NULL,
  gtid     VARCHAR(512) NOT NULL, -- its own source, then all that it held
  reason   VARCHAR(255) NOT NULL
) ENGINE=InnoDB;

CREATE USER IF NOT EXISTS 'failoverd'@'localhost' IDENTIFIED BY '@PASSWORD@';
GRANT
  PROCESS,                  -- see all connections and transactions
  CONNECTION ADMIN,         -- end them, and connect where max_connections is reached
  READ ONLY ADMIN,          -- set read_only
  REPLICA MONITOR,          -- SHOW SLAVE STATUS
  BINLOG MONITOR,           -- filters of the binary log (SHOW BINLOG STATUS)
  SHOW VIEW,                -- see which tables there are, and their engines, but no row
  REPLICATION SLAVE ADMIN,  -- START, STOP SLAVE, CHANGE MASTER, semi-sync as a replica
  REPLICATION MASTER ADMIN, -- semi-sync as a source
  RELOAD,                   -- RESET SLAVE, and BACKUP STAGE for a backup (failoverd donor)
  BINLOG MONITOR,           -- for a backup: the position in the binary log
  BINLOG REPLAY             -- skip transaction numbers when a server becomes writable: none is used twice
ON *.* TO 'failoverd'@'localhost';
GRANT SELECT, INSERT, UPDATE ON failoverd.heartbeat TO 'failoverd'@'localhost';
GRANT SELECT, INSERT ON failoverd.journal TO 'failoverd'@'localhost';
-- Which events run, not what they do.
GRANT SELECT (db, name, status) ON mysql.event TO 'failoverd'@'localhost';

CREATE USER IF NOT EXISTS 'failoverd_repl'@'@REPLICATION_HOST@' IDENTIFIED BY '@REPLICATION_PASSWORD@';
GRANT REPLICATION SLAVE ON *.* TO 'failoverd_repl'@'@REPLICATION_HOST@';
