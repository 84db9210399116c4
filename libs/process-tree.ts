import { type ChildProcess, spawn } from 'node:child_process';

/** Ends a process with all that it started; on POSIX it has to lead its group (`detached` at its start). */
export function killTree(child: ChildProcess): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  if (process.platform === 'win32') {
    const killer = spawn('taskkill.exe', ['/PID', String(child.pid), '/T', '/F'], {
      stdio: 'ignore',
      windowsHide: true,
    });
    killer.on('error', () => child.kill());
    return;
  }
  try {
    process.kill(-child.pid, 'SIGKILL'); // the group that it leads
  } catch {
    // It ended meanwhile.
  }
}
