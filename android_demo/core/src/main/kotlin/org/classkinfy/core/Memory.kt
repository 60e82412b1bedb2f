package org.classkinfy.core

import java.io.File

/** What this process takes, bytes. */
interface Memory {
    fun resident(): Long

    /** Resident at most, so far. */
    fun peak(): Long

    /** With pages that others share counted in part. */
    fun proportional(): Long
}

/** As Linux tells it; what takes part in sharing, the platform tells (on Android `Debug.getPss`). */
class LinuxMemory(private val proportionalBytes: () -> Long) : Memory {
    override fun resident(): Long = status("VmRSS")

    override fun peak(): Long = status("VmHWM")

    override fun proportional(): Long = proportionalBytes()

    private fun status(key: String): Long {
        val line = File("/proc/self/status").readLines().first { it.startsWith("$key:") }
        return line.removePrefix("$key:").trim().substringBefore(' ').toLong() * 1024
    }
}
