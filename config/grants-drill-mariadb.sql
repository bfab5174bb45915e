-- The drill's account on MariaDB 10.11, beside those of grants-mariadb.sql. Tried with 10.11.19 in the lab. Only where
-- `drill.enabled` is true: run it once as an administrator, on the primary: it replicates. Before that replace the word
-- between two @ signs:
--   DRILL_PASSWORD        what is in the file that `drill.password_file` names

CREATE USER IF NOT EXISTS 'failoverd_drill'@'localhost' IDENTIFIED BY '@DRILL_PASSWORD@';
GRANT
  SELECT,         -- every row of every table is summed up, on each node, and nothing of a row leaves the node
  RELOAD,         -- BACKUP STAGE: commits wait for some 100 ms, so that all nodes are summed up at one transaction
  BINLOG MONITOR, -- which transaction a snapshot holds
  BINLOG ADMIN,   -- sql_log_bin = 0 for its session: otherwise DDL would wait for every table that has been summed up
  PROCESS         -- which tables' engines have snapshots
ON *.* TO 'failoverd_drill'@'localhost';
