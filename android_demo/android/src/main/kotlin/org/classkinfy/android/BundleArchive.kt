package org.classkinfy.android

import java.io.File
import java.io.IOException
import java.io.InputStream
import java.util.zip.ZipInputStream
import org.classkinfy.core.Bundle
import org.classkinfy.core.BundleException

/**
 * A bundle's archive (`.ckb`), unpacked once into a folder of its hash.
 *
 * What is unpacked is checked whole before it gets that name, so a folder of that name is a whole
 * bundle, whenever the app was ended. Opening it later checks it again.
 *
 * @param home a folder that holds nothing else
 */
class BundleArchive(private val home: File) {
    /**
     * Unpack, unless it is there, and remove what is of other bundles.
     *
     * @param sha256 of the manifest of the bundle that the app was built with
     * @param archive opens the archive's bytes
     * @throws BundleException it is no archive, was changed, is another bundle, or there is no room
     */
    @Throws(BundleException::class)
    fun install(sha256: String, archive: () -> InputStream): File {
        if (!SHA256.matches(sha256)) throw BundleException("'$sha256' is no SHA-256; $EMBED")
        val installed = File(home, sha256)
        home.listFiles()?.filter { it != installed }?.forEach { it.deleteRecursively() }
        if (isWhole(installed, sha256)) return installed
        installed.deleteRecursively()
        val unpacked = File(home, "$sha256.part")
        try {
            archive().use { unpack(it, unpacked) }
            val found = Bundle.open(unpacked).sha256
            if (found != sha256) throw BundleException("the app holds bundle $found, and not $sha256; $EMBED")
            if (!unpacked.renameTo(installed)) throw IOException("$unpacked cannot be renamed")
        } catch (error: IOException) {
            throw BundleException("the bundle cannot be unpacked: ${error.message}; free some space", error)
        } finally {
            unpacked.deleteRecursively()
        }
        return installed
    }

    /** Whether it is this bundle still: opening checks every hash below the manifest's. */
    private fun isWhole(folder: File, sha256: String): Boolean = try {
        folder.isDirectory && Bundle.open(folder).sha256 == sha256
    } catch (error: BundleException) {
        false
    }

    private fun unpack(stream: InputStream, folder: File) {
        val zip = ZipInputStream(stream)
        val buffer = ByteArray(1 shl 16)
        var entries = 0
        var bytes = 0L
        while (true) {
            val entry = zip.nextEntry ?: break
            if (++entries > MAX_ENTRIES) throw BundleException("the archive has more than $MAX_ENTRIES entries")
            if (entry.isDirectory) continue
            val file = place(folder, entry.name)
            file.parentFile!!.mkdirs()
            file.outputStream().use { target ->
                while (true) {
                    val count = zip.read(buffer)
                    if (count < 0) break
                    bytes += count
                    if (bytes > MAX_BYTES) throw BundleException("the archive unpacks to more than $MAX_BYTES bytes")
                    target.write(buffer, 0, count)
                }
            }
        }
        if (entries == 0) throw BundleException("the app's bundle is no archive; $EMBED")
    }

    private fun place(folder: File, name: String): File {
        val parts = name.split('/')
        if ('\\' in name || ':' in name || parts.any { it.isEmpty() || it == "." || it == ".." }) {
            throw BundleException("the archive names a file '$name', which is no plain path; $EMBED")
        }
        val file = File(folder, name)
        if (file.exists()) throw BundleException("the archive holds '$name' twice; $EMBED")
        return file
    }

    private companion object {
        val SHA256 = Regex("[0-9a-f]{64}")
        const val MAX_ENTRIES = 4096
        const val MAX_BYTES = 2L shl 30
        const val EMBED = "embed the bundle again"
    }
}
