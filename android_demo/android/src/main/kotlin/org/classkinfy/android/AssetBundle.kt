package org.classkinfy.android

import android.content.Context
import java.io.File
import org.classkinfy.core.BundleException

/** The bundle that `classkinfy embed --android` put into the app's assets. */
object AssetBundle {
    private const val HOME = "classkinfy"

    /**
     * Where the bundle's files are. The first call of an installation unpacks them, which takes
     * seconds: call it off the main thread.
     *
     * @param asset `BundleConstants.ASSET`
     * @param sha256 `BundleConstants.SHA256`
     * @return for `ClasskinfyPipeline.open`
     * @throws BundleException the app was packed with another bundle, or there is no room
     */
    @JvmStatic
    @Synchronized
    @Throws(BundleException::class)
    fun install(context: Context, asset: String, sha256: String): File {
        // Not among what backups carry to another phone.
        val home = File(context.noBackupFilesDir, HOME)
        return BundleArchive(home).install(sha256) { context.assets.open(asset) }
    }
}
